"""Which pieces a snapshot has: few, however long the task, and each event rewritten rarely.

A log-structured merge, after O'Neil et al., "The Log-Structured Merge-Tree"
(1996): every 64 events become a segment, and 8 segments of a level become one
of the next. So n events are written O(log n) times each, and lie in at most 7
segments of each level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from agentmesh.common.v1.conversation_pb2 import BlobRef
from agentmesh.coordinator.v1.snapshot_pb2 import SnapshotSegment, TaskSnapshot
from tasklog.task_log import Entry

SEGMENT_EVENTS: Final = 64
_MERGED_SEGMENTS: Final = 8


class SnapshotStore(Protocol):
    """Keeps snapshots. All methods raise DependencyUnavailable where the store is away."""

    async def load(self, tenant: str, task_id: str) -> tuple[TaskSnapshot, int]:
        """The task's snapshot and its revision: 0, and no segments, where it has none.

        Raises:
            CorruptData: It cannot be read.
        """
        ...

    async def save(self, tenant: str, task_id: str, snapshot: TaskSnapshot, *, after: int) -> int:
        """Replaces the snapshot of revision `after`; its own revision.

        Raises:
            Conflict: Somebody else did.
        """
        ...

    async def put(self, tenant: str, task_id: str, entries: Sequence[Entry]) -> BlobRef:
        """Stores the content of a segment; large content stays where the log has it."""
        ...

    async def get(self, tenant: str, task_id: str, reference: BlobRef) -> list[Entry]:
        """The content of a segment, large content brought back.

        Raises:
            CorruptData: It is gone or damaged.
            NewerFormat: It has an event that only a later version can read.
        """
        ...

    async def drop(self, tenant: str, task_id: str, reference: BlobRef) -> None:
        """Removes the content of a segment."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """The events of one segment, from `first` to `last`."""

    first: int
    last: int
    level: int


def spans(snapshot: TaskSnapshot) -> list[Span]:
    """The spans of the segments that there are."""
    return [span_of(segment) for segment in snapshot.segments]


def span_of(segment: SnapshotSegment) -> Span:
    """The span of one segment."""
    return Span(segment.first_sequence, segment.last_sequence, segment.level)


def planned(present: Sequence[Span], last_sequence: int) -> list[Span]:
    """The spans that there should be once events up to `last_sequence` are stored."""
    plan = list(present)
    first = plan[-1].last + 1 if plan else 1
    while last_sequence - first + 1 >= SEGMENT_EVENTS:
        plan.append(Span(first, first + SEGMENT_EVENTS - 1, 0))
        first += SEGMENT_EVENTS
        while _is_due(newest := plan[-_MERGED_SEGMENTS:]):
            merged = Span(newest[0].first, newest[-1].last, newest[0].level + 1)
            plan[-_MERGED_SEGMENTS:] = [merged]
    return plan


def _is_due(newest: Sequence[Span]) -> bool:
    return len(newest) == _MERGED_SEGMENTS and len({span.level for span in newest}) == 1
