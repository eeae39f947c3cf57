"""What has happened to a task, read quickly: from its snapshot, and from the log after that."""

import asyncio
from typing import Final

from agentmesh.coordinator.v1.snapshot_pb2 import SnapshotSegment, TaskSnapshot
from meshkit.errors import CorruptData, MeshError, TaskStateError
from meshkit.log import Log as Lines
from services.executor import snapshots
from services.executor.journal import History, Log
from services.executor.snapshots import SEGMENT_EVENTS, SnapshotStore, Span
from tasklog import fold, lifecycle

# Tasks whose next segment waits to be written. Beyond it some get theirs later.
_MAX_WAITING: Final = 1_000


class Histories:
    """Reads histories, and keeps the snapshots that make that quick."""

    def __init__(self, *, log: Log, store: SnapshotStore, lines: Lines) -> None:
        self._log = log
        self._store = store
        self._lines = lines
        self._waiting: asyncio.Queue[History] = asyncio.Queue(_MAX_WAITING)

    async def read(self, tenant: str, task_id: str) -> History:
        """The whole history of a task as it stands now; without entries if there is none.

        Raises:
            CorruptData: The log cannot be read, or is not one.
        """
        last = await self._log.last(tenant, task_id)
        if last is None:
            return History(tenant, task_id, [])
        if last.event.sequence > SEGMENT_EVENTS:
            try:
                return await self._with_snapshot(tenant, task_id)
            except MeshError as error:
                # It is only a shorter way to what the log says.
                self._lines.warning("snapshot.unusable", task=last.event.task, error=str(error))
        return _checked(
            History(tenant, task_id, [entry async for entry in self._log.read(tenant, task_id)])
        )

    def grown(self, history: History) -> None:
        """Has the snapshot of a task grow if it is time; somebody else writes it."""
        if len(history.entries) < history.due:
            return
        history.due = len(history.entries) + SEGMENT_EVENTS
        if not self._waiting.full():
            self._waiting.put_nowait(history)

    async def run(self) -> None:
        """Writes snapshots until cancelled. One that fails is only a log to be read in full."""
        while True:
            history = await self._waiting.get()
            try:
                await self._write(history)
                # It may have grown by as much again meanwhile.
                self.grown(history)
            except MeshError as error:
                task = history.last.event.task
                self._lines.warning("snapshot.unwritten", task=task, error=str(error))
            except Exception:
                # One task's snapshot must not be the last of all.
                self._lines.exception("snapshot.crashed", task=history.last.event.task)

    async def _with_snapshot(self, tenant: str, task_id: str) -> History:
        snapshot, revision = await self._store.load(tenant, task_id)
        history = History(tenant, task_id, [], snapshot, revision)
        start = 1
        for segment in snapshot.segments:
            history.entries += await self._store.get(tenant, task_id, segment.events)
            start = segment.last_stream_sequence + 1
        history.due = len(history.entries) + SEGMENT_EVENTS
        async for entry in self._log.read(tenant, task_id, from_stream_sequence=start):
            history.entries.append(entry)
        return _checked(history)

    async def _write(self, history: History) -> None:
        if history.last.event.status.state in lifecycle.TERMINAL:
            return
        plan = snapshots.planned(snapshots.spans(history.snapshot), len(history.entries))
        present = {snapshots.span_of(each): each for each in history.snapshot.segments}
        new = TaskSnapshot()
        for span in plan:
            segment = present.pop(span, None) or await self._segment(history, span)
            new.segments.append(segment)
        history.revision = await self._store.save(
            history.tenant, history.task_id, new, after=history.revision
        )
        history.snapshot = new
        history.due = plan[-1].last + SEGMENT_EVENTS
        # Nothing leads to what was merged any more.
        for segment in present.values():
            await self._store.drop(history.tenant, history.task_id, segment.events)

    async def _segment(self, history: History, span: Span) -> SnapshotSegment:
        entries = history.entries[span.first - 1 : span.last]
        return SnapshotSegment(
            first_sequence=span.first,
            last_sequence=span.last,
            last_stream_sequence=entries[-1].stream_sequence,
            level=span.level,
            events=await self._store.put(history.tenant, history.task_id, entries),
        )


def _checked(history: History) -> History:
    if not history.entries:
        # A replica answered that has not heard of the task yet.
        return history
    try:
        fold.replay(entry.event for entry in history.entries)
    except TaskStateError as error:
        raise CorruptData(f"The log of task {history.task_id} is none: {error}") from error
    return history
