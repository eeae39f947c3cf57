"""A set of names, by eight bytes each: what the log holds, to be compared with a store."""

from array import array
from bisect import bisect_left
from collections.abc import Hashable
from typing import Final

_WORD: Final = (1 << 64) - 1


class Recorded:
    """First everything is added, then it is asked. Names are known by 64 bits of their hash."""

    def __init__(self) -> None:
        self._hashes = array("Q")
        self._sorted = True

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, name: Hashable) -> None:
        """Adds a name."""
        self._hashes.append(hash(name) & _WORD)
        self._sorted = False

    def __contains__(self, name: Hashable) -> bool:
        if not self._sorted:
            self._hashes = array("Q", sorted(self._hashes))
            self._sorted = True
        wanted = hash(name) & _WORD
        at = bisect_left(self._hashes, wanted)
        return at < len(self._hashes) and self._hashes[at] == wanted
