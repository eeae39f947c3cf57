"""Which PostgreSQL a mesh may start: that of the environment, or the machine's own."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

VARIABLE: Final = "POSTGRES_SERVER"
# Where Debian and what descends from it keep every version, beside each other.
_DISTRIBUTION: Final = Path("/usr/lib/postgresql")
_PROGRAMS: Final = ("initdb", "postgres")


def find_postgres(environ: Mapping[str, str]) -> Path | None:
    """A launcher that the environment names, else the folder of the newest programs installed.

    None where this machine has none.
    """
    named = environ.get(VARIABLE)
    if named:
        launcher = Path(named).absolute()
        return launcher if launcher.is_file() and os.access(launcher, os.X_OK) else None
    return next(_installed(environ), None)


def _installed(environ: Mapping[str, str]) -> Iterator[Path]:
    on_path = shutil.which("postgres", path=environ.get("PATH"))
    if on_path:
        yield from _whole(Path(on_path).resolve().parent)
    versions = [each for each in _DISTRIBUTION.glob("*") if re.fullmatch(r"\d+", each.name)]
    for version in sorted(versions, key=lambda each: int(each.name), reverse=True):
        yield from _whole(version / "bin")


def _whole(folder: Path) -> Iterator[Path]:
    if all(os.access(folder / each, os.X_OK) for each in _PROGRAMS):
        yield folder
