"""The last lines of a file, and those that come."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

_BLOCK: Final = 64 * 1024
_PAUSE_SECONDS: Final = 0.25


def last_lines(path: Path, count: int) -> list[str]:
    """The last `count` lines, read from the end: a log may be huge."""
    if count <= 0:
        return []
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        content = b""
        while position > 0 and content.count(b"\n") <= count:
            start = max(0, position - _BLOCK)
            file.seek(start)
            content = file.read(position - start) + content
            position = start
    return [line.decode("utf-8", "replace") for line in content.splitlines()[-count:]]


class Follower:
    """Reads what is added to a file; starts again where it is replaced or cut."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO = path.open("rb")
        self._file.seek(0, os.SEEK_END)
        self._rest = b""

    def lines(self) -> list[str]:
        """The lines that are complete since the last call."""
        if self._replaced():
            self._file.close()
            self._file = self._path.open("rb")
            self._rest = b""
        *complete, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [line.decode("utf-8", "replace") for line in complete]

    def _replaced(self) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        here = os.fstat(self._file.fileno())
        return there.st_ino != here.st_ino or there.st_size < self._file.tell()


def follow(
    files: dict[str, Path], *, pause: Callable[[float], None] = time.sleep
) -> Iterator[tuple[str, str]]:
    """Lines as they are added, with the name of their file. Never ends."""
    followers = {name: Follower(path) for name, path in files.items()}
    while True:
        for name, follower in followers.items():
            for line in follower.lines():
                yield name, line
        pause(_PAUSE_SECONDS)
