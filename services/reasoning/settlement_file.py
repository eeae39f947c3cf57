"""Settlements that wait, in a file: they outlive the process."""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from meshkit.errors import MeshError
from services.reasoning.generation import Spending
from services.reasoning.governor import Settlement
from services.reasoning.model import Tier

_SUFFIX: Final = ".jsonl"
# Beside them, for somebody to look at: renamed, it is taken over like the others.
_REFUSED_SUFFIX: Final = ".refused"
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

    def take_over(self) -> Iterator[Settlement]:
        """What processes that are gone have left; each is kept here from when it is given.

        Raises OSError at the end, where some of it could not be taken over: it stays.
        """
        failure: OSError | None = None
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            if path != self._path:
                try:
                    yield from self._take_over(path)
                except OSError as error:
                    failure = error
        if failure is not None:
            raise failure

    def add(self, settlement: Settlement) -> None:
        """Keeps a settlement. Raises OSError where there is no room for it."""
        line = _line(settlement)
        written = self._file.write(line)
        if written != len(line):
            # The next line must not begin behind half of this one.
            self._file.truncate(self._size_bytes)
            raise OSError(28, "No space left on device")
        self._size_bytes += written

    def refuse(self, settlement: Settlement, error: MeshError) -> None:
        """Keeps what the governor does not take, and why. Raises OSError for want of room."""
        why = {"reason": error.reason, "message": error.message}
        self._set_aside(_encode({**_fields(settlement), "refused": why}).encode() + b"\n")

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
                lines = [(line, _settlement(line)) for line in left]
                found = [each for _, each in lines if each is not None]
                for each in found:
                    self.add(each)
                for line, each in lines:
                    # Of a half one nobody was told; a whole one is of a version that knew more.
                    if each is None and line.endswith(b"\n"):
                        self._set_aside(line)
                # Who opened it before it was gone settles the same again, which changes nothing.
                path.unlink(missing_ok=True)
        except (BlockingIOError, FileNotFoundError):
            # Its process lives, or somebody else was quicker.
            return []
        return found

    def _set_aside(self, line: bytes) -> None:
        with (self._folder / f"{self._name}{_REFUSED_SUFFIX}").open("ab", buffering=0) as file:
            size = file.tell()
            if file.write(line) != len(line):
                file.truncate(size)
                raise OSError(28, "No space left on device")


def _line(settlement: Settlement) -> bytes:
    return _encode(_fields(settlement)).encode() + b"\n"


def _fields(settlement: Settlement) -> dict[str, Any]:
    spending = settlement.spending
    return {
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
        "cached_input_tokens": settlement.cached_input_tokens,
    }


def _settlement(line: bytes) -> Settlement | None:
    """None for what is none: half a line, or one of another version."""
    try:
        values: dict[str, Any] = json.loads(line)
        values.pop("refused", None)
        spending = Spending(**values.pop("spending"))
        tier = values.pop("tier", None)
        return Settlement(spending, tier=None if tier is None else Tier(tier), **values)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
