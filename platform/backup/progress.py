"""How far a backup or a restore is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# After so many bytes of one part somebody who waits is told again.
_TELL_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Step:
    """One part is worked at."""

    # For people, such as `the task log`.
    part: str
    # Parts that are done, and all of them as far as is known.
    done: int
    total: int
    # Of all parts together so far.
    size_bytes: int


Progress = Callable[[Step], None]


class Counter:
    """Counts parts and bytes, and tells of them."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress: Final = progress
        self._total = total
        self._done = -1
        self._part = ""
        self._size_bytes = 0
        self._told_bytes = 0

    def expect(self, more: int) -> None:
        """So many parts more."""
        self._total += more

    def begin(self, part: str) -> None:
        """The part before is done."""
        self._done += 1
        self._part = part
        self._tell()

    def count(self, size_bytes: int) -> None:
        """So many bytes more."""
        self._size_bytes += size_bytes
        if self._size_bytes - self._told_bytes >= _TELL_BYTES:
            self._tell()

    def _tell(self) -> None:
        self._told_bytes = self._size_bytes
        self._progress(
            Step(self._part, self._done, max(self._total, self._done + 1), self._size_bytes)
        )
