"""A set of names that is added to and asked by turns, by eight bytes each."""

from array import array
from collections.abc import Hashable
from typing import Final

_FIRST_SLOTS: Final = 1 << 10
# A table that is fuller than this grows: probing takes longer the fuller it is.
_FULLEST: Final = 2 / 3
_WORD: Final = (1 << 64) - 1


class HashSet:
    """A hash table with linear probing, in one array. Names are known by 64 bits of their hash."""

    def __init__(self) -> None:
        # No name's word is 0, so that 0 is an empty slot.
        self._slots = array("Q", bytes(8 * _FIRST_SLOTS))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: Hashable) -> bool:
        word = _word(name)
        return self._slots[self._slot(word)] == word

    def add(self, name: Hashable) -> bool:
        """Adds a name; whether it is new."""
        word = _word(name)
        slot = self._slot(word)
        if self._slots[slot]:
            return False
        self._slots[slot] = word
        self._count += 1
        if self._count > _FULLEST * len(self._slots):
            self._grow()
        return True

    def _slot(self, word: int) -> int:
        """Where `word` stands, or else would stand."""
        slots, mask = self._slots, len(self._slots) - 1
        slot = word & mask
        while slots[slot] and slots[slot] != word:
            slot = slot + 1 & mask
        return slot

    def _grow(self) -> None:
        before = self._slots
        self._slots = array("Q", bytes(16 * len(before)))
        for word in before:
            if word:
                self._slots[self._slot(word)] = word


def _word(name: Hashable) -> int:
    return hash(name) & _WORD or 1
