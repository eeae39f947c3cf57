"""One task's log in the hands of the executor that owns the task."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from agentmesh.common.v1 import usage_pb2
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.snapshot_pb2 import TaskSnapshot
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskStatus
from agentmesh.coordinator.v1.task_pb2 import TaskNote
from meshkit.clock import Clock
from meshkit.errors import Conflict, Fenced, NewerFormat
from services.executor.snapshots import SEGMENT_EVENTS
from tasklog import lifecycle
from tasklog.task_log import Entry

# Notes stand in the status of every event after them.
_MAX_NOTES: Final = 32
_MORE: Final = TaskNote(code="NOTES_OMITTED", text="There was more to note than is kept.")


class Log(Protocol):
    """The event log of every task."""

    async def last(self, tenant: str, task_id: str) -> Entry | None: ...

    async def last_readable(self, tenant: str, task_id: str) -> Entry | None: ...

    async def append(self, tenant: str, task_id: str, event: TaskEvent, *, after: int) -> Entry: ...
    def read(
        self, tenant: str, task_id: str, *, from_stream_sequence: int = 1
    ) -> AsyncIterator[Entry]: ...


class CancelRequestedError(Exception):
    """Somebody asked for the task to stop. Not an error of anything."""


@dataclass(slots=True)
class History:
    """The log of one task from its first event on, and what of it stands in its snapshot."""

    tenant: str
    task_id: str
    # Grows with what the executor that owns the task appends.
    entries: list[Entry]
    snapshot: TaskSnapshot = field(default_factory=TaskSnapshot)
    # Of the snapshot in its store.
    revision: int = 0
    # With so many entries the snapshot is to grow.
    due: int = SEGMENT_EVENTS

    @property
    def last(self) -> Entry:
        """The last event."""
        return self.entries[-1]


class Journal:
    """Appends to one task's log for as long as this executor owns the task.

    Every append names the event before it, so an executor that lost its task
    to another one cannot write: it is Fenced.
    """

    def __init__(
        self,
        *,
        log: Log,
        clock: Clock,
        writer: str,
        history: History,
        grown: Callable[[History], None],
        is_last_attempt: bool,
    ) -> None:
        """`grown` is told of every event that was appended."""
        self._log = log
        self._clock = clock
        self._writer = writer
        self._history = history
        self._grown = grown
        self.tenant: Final = history.tenant
        self.task_id: Final = history.task_id
        # Where a fault would end the task, a poorer answer is better than none.
        self.is_last_attempt: Final = is_last_attempt
        self._events = [entry.event for entry in history.entries]
        submitted = self._events[0].submitted
        # The task as it was submitted.
        self.task: Final = submitted.task
        # The agent version that it runs.
        self.agent: Final = submitted.agent
        # The sequence of this executor's `started`: no other start of the task ever has it.
        self.start_sequence: Final = history.last.event.sequence
        # The task's status after the last event.
        self.status: TaskStatus = history.last.event.status
        # Sent to stand next in the log; nobody has said whether one of them does.
        self._sent: list[TaskEvent] = []

    @property
    def events(self) -> Sequence[TaskEvent]:
        """The log so far."""
        return self._events

    @property
    def last_sequence(self) -> int:
        """The sequence of the last event."""
        return self._history.last.event.sequence

    def event(self) -> TaskEvent:
        """A new event without a kind, to be filled in and appended."""
        return lifecycle.new_event(self.task.name, self._writer)

    async def append(
        self,
        event: TaskEvent,
        *,
        state: task_pb2.TaskState | None = None,
        usage: usage_pb2.Usage | None = None,
        notes: Sequence[TaskNote] = (),
    ) -> None:
        """Records `event` as the next one; it is stored when this returns.

        An append before it that was broken off may be stored too: then `event`
        comes after that.

        Raises:
            Fenced: Another executor owns the task now, or it has ended.
            CancelRequestedError: Cancellation was asked for; `event` is not recorded.
        """
        while not await self._is_appended(event, state, usage, notes):
            pass

    async def _is_appended(
        self,
        event: TaskEvent,
        state: task_pb2.TaskState | None,
        usage: usage_pb2.Usage | None,
        notes: Sequence[TaskNote],
    ) -> bool:
        """Whether `event` is stored; False where one that was sent before it came first."""
        last = self._history.last
        status = last.event.status
        lifecycle.advance(
            status,
            event,
            sequence=last.event.sequence + 1,
            time=self._clock.now(),
            state=state,
            usage=usage,
            notes=_new(notes, status.notes, is_end=state in lifecycle.TERMINAL),
        )
        self._sent.append(event)
        try:
            entry = await self._log.append(
                self.tenant, self.task_id, event, after=last.stream_sequence
            )
        except Conflict as conflict:
            self._sent.pop()
            if await self.refresh() and not status.cancel_requested:
                raise CancelRequestedError from conflict
            if self._history.last is last:
                raise Fenced(f"{event.task} moved on without this executor.") from conflict
            return False
        self._take(entry)
        return True

    async def refresh(self) -> bool:
        """Reads what others wrote; answers whether cancellation was asked for.

        What this journal sent itself, in an append that was broken off, is
        recognised and taken as if its answer had come.

        Raises:
            Fenced: Another executor owns the task now, or it has ended, or a later version
                wrote to it what only executors of that version can go on from.
        """
        try:
            await self._take_new()
        except NewerFormat as error:
            raise Fenced(str(error)) from error
        if self.status.state != task_pb2.TASK_STATE_RUNNING:
            raise Fenced(f"{self.task.name} moved on by what was sent before.")
        return self.status.cancel_requested

    async def _take_new(self) -> None:
        async for entry in self._log.read(
            self.tenant, self.task_id, from_stream_sequence=self._history.last.stream_sequence + 1
        ):
            is_own = any(_is_same(entry.event, event) for event in self._sent)
            if not is_own and entry.event.WhichOneof("kind") != "cancel_requested":
                raise Fenced(f"{entry.event.task} was taken over by {entry.event.writer}.")
            self._take(entry)

    def _take(self, entry: Entry) -> None:
        self._events.append(entry.event)
        self._history.entries.append(entry)
        self.status = entry.event.status
        self._sent.clear()
        self._grown(self._history)


def _is_same(stored: TaskEvent, sent: TaskEvent) -> bool:
    """Whether an event of the log is one that was sent; large content may differ in its form."""
    return (
        stored.sequence == sent.sequence
        and stored.writer == sent.writer
        and stored.time == sent.time
        and stored.WhichOneof("kind") == sent.WhichOneof("kind")
    )


def _new(notes: Sequence[TaskNote], present: Sequence[TaskNote], *, is_end: bool) -> list[TaskNote]:
    """Those of `notes` that are not there yet, as long as there is room.

    For the last ones there is always room: they say what is missing.
    """
    new: list[TaskNote] = []
    for note in notes:
        room = _MAX_NOTES - len(present) - len(new)
        if (is_end or room > 0) and note not in present and note not in new:
            new.append(note if is_end or room > 1 else _MORE)
    return new
