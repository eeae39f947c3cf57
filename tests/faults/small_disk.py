"""A volume with little room, for a server that is to run out of it."""

import os
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

_BLOCK: Final = b"\0" * 4096
_MOUNT: Final = """
mount -t tmpfs -o "size=$1" tmpfs "$2" && echo mounted && exec sleep infinity
"""


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A volume that only processes which are started through `through` see."""

    # Of the process that keeps it.
    pid: int
    folder: Path

    @property
    def through(self) -> tuple[str, ...]:
        """What a server is started through, to find the volume at its folder."""
        return (
            *("/usr/bin/env", "nsenter", "--user", "--mount", "--preserve-credentials"),
            *(f"--target={self.pid}", "setpriv", "--pdeathsig=KILL"),
        )

    def fill(self) -> None:
        """Leaves no room."""
        with suppress(OSError), self._ballast.open("wb", buffering=0) as ballast:
            while True:
                ballast.write(_BLOCK)

    def make_room(self) -> None:
        """Gives back what `fill` took."""
        self._ballast.unlink()

    @property
    def _ballast(self) -> Path:
        return Path(f"/proc/{self.pid}/root{self.folder}/ballast")


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Generator[SmallDisk]:
    """A volume on an empty folder; the test is skipped where nothing may be mounted."""
    folder.mkdir(parents=True)
    keeper = subprocess.Popen(
        [
            "unshare",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            _MOUNT,
            "sh",
            f"{megabytes}m",
            folder,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert keeper.stdout is not None
    assert keeper.stderr is not None
    try:
        if keeper.stdout.readline() != b"mounted\n":
            why = keeper.stderr.read().decode("utf-8", "replace").strip()
            pytest.skip(f"this machine lets nobody mount a volume of their own: {why}")
        yield SmallDisk(keeper.pid, folder)
    finally:
        os.kill(keeper.pid, signal.SIGKILL)
        keeper.communicate()
