"""What the read model keeps of a task: a fold over its events, in whatever order they come."""

from collections.abc import Iterable
from typing import Final

from google.rpc import error_details_pb2, status_pb2

from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshkit import names
from meshkit.frozen import frozen
from tasklog import lifecycle

# Lists show the beginning of an input; GetTask answers the whole.
_INPUT_CHARACTERS: Final = 200
# Of an error without an ErrorInfo.
_NO_REASON: Final = "INTERNAL"


@frozen
class Recorded:
    """An event as the log holds it."""

    event: TaskEvent
    stream_sequence: int
    # Of the stored message and the large content that it refers to.
    size_bytes: int


@frozen
class TaskRow:
    """A task, as far as its events have come. Made by `take`."""

    tenant: str
    task_id: str
    created_micros: int
    # Empty for none.
    parent_id: str
    state: int = 0
    lane: int = 0
    # 0 while it is open.
    ended_micros: int = 0
    # Why it is a dead letter; empty if it is none, or no longer.
    reason: str = ""
    discarded: bool = False
    # Whether retention has begun to remove its content.
    expired: bool = False
    # Whether anything else than the event that says so was ever seen.
    content: bool = False
    # What the events seen so far take, each counted once.
    size_bytes: int = 0
    # Every event up to this one was seen, and these after it.
    seen_up_to: int = 0
    seen_beyond: tuple[int, ...] = ()
    # Of the newest event.
    sequence: int = 0
    stream_sequence: int = 0
    # Serialized and shortened; empty while the first event is still to come.
    first_event: bytes = b""
    last_event: bytes = b""


def take(row: TaskRow | None, entries: Iterable[Recorded]) -> TaskRow:
    """`row` after more events of its task, at least one; a repeat changes nothing.

    A crash may bring a task's first event after its later ones: each event adds
    what it knows, and the newest one decides how the task stands.
    """
    draft: _Draft | None = None
    for recorded in entries:
        draft = draft or _Draft(row or _new(recorded.event))
        draft.add(recorded)
    assert draft is not None, "there are events"
    return draft.row()


class _Draft:
    """A row that is being written. What is costly waits for the last event."""

    def __init__(self, row: TaskRow) -> None:
        self._row: Final = row
        self._first: TaskEvent | None = None
        self._newest: Recorded | None = None
        self._sequence = row.sequence
        self._expired = row.expired
        self._content = row.content
        self._size_bytes = row.size_bytes
        self._up_to = row.seen_up_to
        self._beyond = row.seen_beyond

    def add(self, recorded: Recorded) -> None:
        """Takes one event."""
        event = recorded.event
        if event.HasField("expired"):
            # From now on it is the task.
            self._expired, self._size_bytes = True, recorded.size_bytes
            self._up_to, self._beyond = event.sequence, ()
            self._first = event
        else:
            self._content = True
            if self._expired:
                return
            self._count(recorded)
            if event.sequence == 1:
                self._first = event
            if event.sequence <= self._sequence:
                return
        self._newest, self._sequence = recorded, event.sequence

    def _count(self, recorded: Recorded) -> None:
        sequence = recorded.event.sequence
        if sequence <= self._up_to or sequence in self._beyond:
            return
        self._size_bytes += recorded.size_bytes
        if sequence == self._up_to + 1 and not self._beyond:
            self._up_to = sequence
            return
        beyond = sorted([*self._beyond, sequence])
        while beyond and beyond[0] == self._up_to + 1:
            self._up_to = beyond.pop(0)
        self._beyond = tuple(beyond)

    def row(self) -> TaskRow:
        """What it has come to."""
        row, newest = self._row, self._newest
        event = newest.event if newest else TaskEvent()
        status = event.status
        ended = status.state in lifecycle.TERMINAL
        dead = event.HasField("dead_lettered")
        return TaskRow(
            tenant=row.tenant,
            task_id=row.task_id,
            created_micros=row.created_micros,
            parent_id=row.parent_id,
            state=status.state if newest else row.state,
            lane=status.lane if newest else row.lane,
            ended_micros=(status.end_time.ToMicroseconds() if ended else 0)
            if newest
            else row.ended_micros,
            reason=(_reason(event.dead_lettered.error) if dead else "") if newest else row.reason,
            discarded=status.discarded if newest else row.discarded,
            expired=self._expired,
            content=self._content,
            size_bytes=self._size_bytes,
            seen_up_to=self._up_to,
            seen_beyond=self._beyond,
            sequence=self._sequence,
            stream_sequence=newest.stream_sequence if newest else row.stream_sequence,
            first_event=_asked_for(self._first) if self._first else row.first_event,
            last_event=_standing(event) if newest else row.last_event,
        )


def _new(event: TaskEvent) -> TaskRow:
    tenant, task_id = names.TASK.parse(event.task, field="task")
    parent = event.status.parent_task
    return TaskRow(
        tenant=tenant,
        task_id=task_id,
        created_micros=event.status.create_time.ToMicroseconds(),
        parent_id=names.TASK.parse(parent, field="parent_task")[1] if parent else "",
    )


def _reason(error: status_pb2.Status) -> str:
    info = error_details_pb2.ErrorInfo()
    for detail in error.details:
        if detail.Unpack(info):
            # What a database cannot hold is no reason that anybody gives.
            return info.reason.replace("\0", "") or _NO_REASON
    return _NO_REASON


def _asked_for(first: TaskEvent) -> bytes:
    """The part of a first event that lists need, and of the one that retention leaves."""
    short = TaskEvent(task=first.task, sequence=first.sequence, format=first.format)
    if first.HasField("expired"):
        short.status.CopyFrom(first.status)
        short.expired.CopyFrom(first.expired)
    else:
        task = short.submitted.task
        task.CopyFrom(first.submitted.task)
        task.input.ClearField("data")
        task.input.text = task.input.text[:_INPUT_CHARACTERS]
    return short.SerializeToString()


def _standing(last: TaskEvent) -> bytes:
    """The part of a last event that lists need: how the task stands, and why."""
    short = TaskEvent(task=last.task, sequence=last.sequence, format=last.format)
    short.status.CopyFrom(last.status)
    match last.WhichOneof("kind"):
        case "waiting":
            short.waiting.CopyFrom(last.waiting)
            short.waiting.ClearField("children")
        case "failed":
            short.failed.CopyFrom(last.failed)
        case "dead_lettered":
            short.dead_lettered.CopyFrom(last.dead_lettered)
        case "discarded":
            short.discarded.CopyFrom(last.discarded)
        case _:
            pass
    return short.SerializeToString()
