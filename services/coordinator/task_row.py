"""What the read model keeps of a task: a fold over its events, in whatever order they come."""

from dataclasses import dataclass, replace
from typing import Final

from google.rpc import error_details_pb2, status_pb2

from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshkit import names
from tasklog import lifecycle

# Lists show the beginning of an input; GetTask answers the whole.
_INPUT_CHARACTERS: Final = 200
# Of an error without an ErrorInfo.
_NO_REASON: Final = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event as the log holds it."""

    event: TaskEvent
    stream_sequence: int
    # Of the stored message and the large content that it refers to.
    size_bytes: int


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task, as far as its events have come. Made by `take`."""

    tenant: str
    task_id: str
    created_micros: int
    # Empty for none.
    parent_id: str
    state: int = 0
    lane: int = 0
    agent: str = ""
    session: str = ""
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


def take(row: TaskRow | None, recorded: Recorded) -> TaskRow:
    """`row` after one more event; a repeat changes nothing.

    A crash may bring a task's first event after its later ones: each event adds
    what it knows, and the newest one decides how the task stands.
    """
    event = recorded.event
    row = row or _new(event)
    if event.HasField("expired"):
        return _newest(_remainder(row, recorded), recorded)
    if row.expired:
        return replace(row, content=True)
    row = replace(_counted(row, recorded), content=True)
    if event.sequence == 1:
        task = event.submitted.task
        row = replace(
            row,
            agent=task.agent,
            session=task.session,
            first_event=shortened(event).SerializeToString(),
        )
    return _newest(row, recorded) if event.sequence > row.sequence else row


def _new(event: TaskEvent) -> TaskRow:
    tenant, task_id = names.TASK.parse(event.task, field="task")
    parent = event.status.parent_task
    return TaskRow(
        tenant=tenant,
        task_id=task_id,
        created_micros=event.status.create_time.ToMicroseconds(),
        parent_id=names.TASK.parse(parent, field="parent_task")[1] if parent else "",
    )


def _remainder(row: TaskRow, recorded: Recorded) -> TaskRow:
    event = recorded.event
    return replace(
        row,
        agent=event.expired.agent,
        session="",
        expired=True,
        size_bytes=recorded.size_bytes,
        seen_up_to=event.sequence,
        seen_beyond=(),
        first_event=shortened(event).SerializeToString(),
    )


def _counted(row: TaskRow, recorded: Recorded) -> TaskRow:
    sequence = recorded.event.sequence
    if sequence <= row.seen_up_to or sequence in row.seen_beyond:
        return row
    up_to, beyond = row.seen_up_to, sorted([*row.seen_beyond, sequence])
    while beyond and beyond[0] == up_to + 1:
        up_to = beyond.pop(0)
    return replace(
        row,
        size_bytes=row.size_bytes + recorded.size_bytes,
        seen_up_to=up_to,
        seen_beyond=tuple(beyond),
    )


def _newest(row: TaskRow, recorded: Recorded) -> TaskRow:
    event, status = recorded.event, recorded.event.status
    ended = status.state in lifecycle.TERMINAL
    return replace(
        row,
        state=status.state,
        lane=status.lane,
        ended_micros=status.end_time.ToMicroseconds() if ended else 0,
        reason=_reason(event.dead_lettered.error) if event.HasField("dead_lettered") else "",
        discarded=status.discarded,
        sequence=event.sequence,
        stream_sequence=recorded.stream_sequence,
        last_event=shortened(event).SerializeToString(),
    )


def _reason(error: status_pb2.Status) -> str:
    info = error_details_pb2.ErrorInfo()
    for detail in error.details:
        if detail.Unpack(info):
            return info.reason
    return _NO_REASON


def shortened(event: TaskEvent) -> TaskEvent:
    """The part of an event that lists need."""
    short = TaskEvent()
    short.CopyFrom(event)
    match event.WhichOneof("kind"):
        case "submitted":
            task = short.submitted.task
            task.input.ClearField("data")
            task.input.text = task.input.text[:_INPUT_CHARACTERS]
            short.submitted.ClearField("agent")
        case "completed":
            short.completed.ClearField("output")
            short.completed.ClearField("model_called")
            short.completed.ClearField("citations")
        case "waiting":
            short.waiting.ClearField("children")
        case "failed" | "dead_lettered" | "discarded" | "expired":
            pass
        case _:
            # Only the status counts, and that stands in every event.
            short.ClearField(event.WhichOneof("kind") or "submitted")
    return short
