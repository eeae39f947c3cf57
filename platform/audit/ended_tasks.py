"""What is kept of tasks that have ended: two numbers each."""

from array import array
from typing import Final, NamedTuple, cast

from agentmesh.coordinator.v1 import task_pb2
from audit.finding import TaskKey

_FIRST_SLOTS: Final = 1 << 10
# A table that is fuller than this grows: probing takes longer the fuller it is.
_FULLEST: Final = 2 / 3
_WORD: Final = (1 << 64) - 1
# The second number, from its lowest bit on; the sequence has what is left.
_STATE_BITS: Final = 4
_EXPIRED_BITS: Final = 1
_DIGEST_BITS: Final = 32


class Ended(NamedTuple):
    """How a task ended."""

    # The number of its last event.
    sequence: int
    state: task_pb2.TaskState
    # Tells whether a later event changed the status.
    status_digest: int
    # Whether its content was removed.
    expired: bool


class EndedTasks:
    """Ended tasks by name: a hash table with linear probing, in two arrays.

    A million tasks take 34 MB; a dictionary of them would take 250. Names are known
    by 64 bits of their hash: that any two of a million tasks share them has a chance
    of one in 37 million.
    """

    def __init__(self) -> None:
        self._count = 0
        self._make(_FIRST_SLOTS)

    def __len__(self) -> int:
        return self._count

    def get(self, task: TaskKey) -> Ended | None:
        """How `task` ended; None where that is not known."""
        facts = self._facts[self._slot(hash(task) & _WORD)]
        return _unpack(facts) if facts else None

    def has_expired(self, task: TaskKey) -> bool:
        """Whether it is known that the content of `task` was removed."""
        ended = self.get(task)
        return ended is not None and ended.expired

    def put(self, task: TaskKey, ended: Ended) -> None:
        """Keeps how `task` ended, in place of what was known of it."""
        name = hash(task) & _WORD
        slot = self._slot(name)
        if not self._facts[slot]:
            self._count += 1
            if self._count > _FULLEST * len(self._facts):
                self._grow()
                slot = self._slot(name)
        self._names[slot], self._facts[slot] = name, _pack(ended)

    def _slot(self, name: int) -> int:
        """Where `name` stands, or else would stand."""
        names, facts, mask = self._names, self._facts, len(self._facts) - 1
        slot = name & mask
        while facts[slot] and names[slot] != name:
            slot = slot + 1 & mask
        return slot

    def _make(self, slots: int) -> None:
        self._names = array("Q", bytes(8 * slots))
        # No task's facts are 0, so that 0 is an empty slot.
        self._facts = array("Q", bytes(8 * slots))

    def _grow(self) -> None:
        names, facts = self._names, self._facts
        self._make(2 * len(facts))
        for name, fact in zip(names, facts, strict=True):
            if fact:
                slot = self._slot(name)
                self._names[slot], self._facts[slot] = name, fact


def _pack(ended: Ended) -> int:
    facts = ended.sequence
    facts = facts << _DIGEST_BITS | ended.status_digest
    facts = facts << _EXPIRED_BITS | ended.expired
    return facts << _STATE_BITS | ended.state


def _unpack(facts: int) -> Ended:
    state = cast(task_pb2.TaskState, facts & ((1 << _STATE_BITS) - 1))
    facts >>= _STATE_BITS
    expired = bool(facts & 1)
    facts >>= _EXPIRED_BITS
    return Ended(facts >> _DIGEST_BITS, state, facts & ((1 << _DIGEST_BITS) - 1), expired)
