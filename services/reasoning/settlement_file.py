"""Settlements that wait, in a file: they outlive the process."""

import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Final

from services.reasoning.generation import Spending
from services.reasoning.governor import Settlement
from services.reasoning.model import Tier

_SUFFIX: Final = ".jsonl"
# About ten thousand settlements.
_LARGE_BYTES: Final = 4 * 1024 * 1024
_encode: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class SettlementFile:
    """A SettlementStore: a file a process, which another process takes over.

    What the system has of it survives the death of the process, not a power cut.
    """

    def __init__(self, folder: Path, name: str, *, large_bytes: int = _LARGE_BYTES) -> None:
        """`name` is no other process's. From `large_bytes` on it should be replaced."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder: Final = folder
        self._name: Final = name
        self._large_bytes: Final = large_bytes
        self._count = 0
        self._path, self._file = self._open()
        self._size_bytes = 0

    @property
    def is_large(self) -> bool:
        """Whether `replace` is worth its while."""
        return self._size_bytes >= self._large_bytes

    def take_over(self) -> list[Settlement]:
        """What processes that are gone have left; it is kept here from now on."""
        found: list[Settlement] = []
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            if path != self._path:
                found += self._take_over(path)
        return found

    def add(self, settlement: Settlement) -> None:
        """Keeps a settlement. Raises OSError where there is no room for it."""
        line = _line(settlement)
        written = self._file.write(line)
        if written != len(line):
            # The next line must not begin behind half of this one.
            self._file.truncate(self._size_bytes)
            raise OSError(28, "No space left on device")
        self._size_bytes += written

    def clear(self) -> None:
        """Forgets all: they are settled."""
        if self._size_bytes:
            self._file.truncate(0)
            self._size_bytes = 0

    def replace(self, settlements: Iterable[Settlement]) -> None:
        """Forgets all but these, in a new file. Raises OSError where there is no room for it."""
        path, file = self._open()
        try:
            size_bytes = file.write(lines := b"".join(map(_line, settlements)))
            if size_bytes != len(lines):
                raise OSError(28, "No space left on device")
        except OSError:
            path.unlink(missing_ok=True)
            file.close()
            raise
        self._path.unlink(missing_ok=True)
        self._file.close()
        self._path, self._file, self._size_bytes = path, file, size_bytes

    def close(self) -> None:
        """Ends the work with it; the file stays only if something is in it."""
        if not self._size_bytes:
            self._path.unlink(missing_ok=True)
        self._file.close()

    def _open(self) -> tuple[Path, BinaryIO]:
        """A new file that nobody else takes over."""
        while True:
            self._count += 1
            path = self._folder / f"{self._name}-{self._count}{_SUFFIX}"
            # Unbuffered: what was written is out of the process.
            file = path.open("ab", buffering=0)
            fcntl.flock(file, fcntl.LOCK_EX)
            # Somebody who looked before it was locked may have taken it for left behind.
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return path, file
            file.close()

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


def _line(settlement: Settlement) -> bytes:
    spending = settlement.spending
    fields = {
        # A cap is the governor's business before a call, and none after it.
        "spending": {
            "tenant": spending.tenant,
            "caller": spending.caller,
            "key": spending.key,
            "task_type": spending.task_type,
            "agent": spending.agent,
            "session": spending.session,
            "task": spending.task,
        },
        "model": settlement.model,
        "input_tokens": settlement.input_tokens,
        "output_tokens": settlement.output_tokens,
        "tier": settlement.tier,
        "price_version": settlement.price_version,
        "lease": settlement.lease,
        "leased_micros": settlement.leased_micros,
        "call_time_ms": settlement.call_time_ms,
    }
    return _encode(fields).encode() + b"\n"


def _settlement(line: bytes) -> Settlement | None:
    """None for the line at which a process died: nobody was told that the call was made."""
    try:
        values: dict[str, Any] = json.loads(line)
        spending = Spending(**values.pop("spending"))
        tier = values.pop("tier", None)
        return Settlement(spending, tier=None if tier is None else Tier(tier), **values)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
