"""The services of an earlier version, from a tree of its sources."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Names such a tree; `tools/dev upgrade` makes it.
VARIABLE: Final = "PREVIOUS_VERSION"
# By which a folder on the path is told from one of packages that both versions share.
_OWN: Final = ("agentmesh", "services", "tier")
# Without the packages that this machine happens to have.
_PYTHON: Final = (sys.executable, "-P", "-S")
_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Previous:
    """A tree with the repository's folders, and in `stubs` the code of its contracts."""

    root: Path

    @classmethod
    def named(cls, environ: Mapping[str, str]) -> "Previous | None":
        """The one that the environment names, if any."""
        root = environ.get(VARIABLE)
        return cls(Path(root)) if root else None

    @property
    def environment(self) -> Mapping[str, str]:
        """What a Python process needs to be of that version, and of no other."""
        shared = [each for each in sys.path if each and not _has_own(Path(each))]
        own = (self.root / "stubs", self.root / "platform", self.root)
        return {"PYTHONPATH": os.pathsep.join([*map(str, own), *shared])}

    def run(self, *arguments: str) -> str:
        """What a Python program of that version prints. Raises where it fails."""
        done = subprocess.run(
            [*_PYTHON, *arguments],
            env={**os.environ, **self.environment},
            cwd=self.root,
            check=False,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def command(self, program: Sequence[str]) -> Sequence[str]:
        """How a service is started whose module and arguments these are."""
        return (*_PYTHON, "-m", "tier.service_program", *program)


def _has_own(folder: Path) -> bool:
    return any((folder / each).is_dir() for each in _OWN)
