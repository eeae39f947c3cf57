"""Settlements that wait, in a file: they outlive the process."""

import fcntl
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Final

from services.reasoning.generation import Spending
from services.reasoning.governor import Settlement

_SUFFIX: Final = ".jsonl"


class SettlementFile:
    """A SettlementStore: a file a process, which the next process takes over.

    What the system has of it survives the death of the process, not a power cut.
    """

    def __init__(self, folder: Path, name: str) -> None:
        """`name` is no other process's."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder: Final = folder
        self._path: Final = folder / f"{name}{_SUFFIX}"
        # Unbuffered: what was written is out of the process.
        self._file: Final[BinaryIO] = self._path.open("a+b", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def take_over(self) -> list[Settlement]:
        """What processes that are gone have left; it is kept here from now on."""
        found: list[Settlement] = []
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            if path != self._path:
                found += self._take_over(path)
        return found

    def add(self, settlement: Settlement) -> None:
        """Keeps a settlement. Raises OSError where there is no room for it."""
        self._file.write(json.dumps(asdict(settlement)).encode() + b"\n")

    def clear(self) -> None:
        """Forgets all: they are settled."""
        if self._file.tell():
            self._file.truncate(0)
            self._file.seek(0)

    def close(self) -> None:
        """Ends the work with it; the file stays only if something is in it."""
        if not self._file.tell():
            self._path.unlink(missing_ok=True)
        self._file.close()

    def _take_over(self, path: Path) -> list[Settlement]:
        try:
            with path.open("rb") as left:
                fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found = [each for line in left if (each := _settlement(line)) is not None]
                for each in found:
                    self.add(each)
                # Who opened it before it was gone settles the same again, which changes nothing.
                path.unlink(missing_ok=True)
        except (BlockingIOError, FileNotFoundError):
            # Its process lives, or somebody else was quicker.
            return []
        return found


def _settlement(line: bytes) -> Settlement | None:
    """None for the line at which a process died: nobody was told that the call was made."""
    try:
        values: dict[str, Any] = json.loads(line)
        spending = Spending(**values.pop("spending"))
        return Settlement(spending, **values)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
