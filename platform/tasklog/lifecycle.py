"""The states of a task and the events that lead from one to the next.

The table is the whole of it: what it does not name is refused. It is pure, so
that every writer (coordinator, executor) and every reader (audit, read model)
comes to the same state from the same events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from agentmesh.common.v1 import usage_pb2
from agentmesh.coordinator.v1 import task_event_pb2, task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskStatus
from meshkit.errors import TaskStateError

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NEW: Final = task_pb2.TASK_STATE_UNSPECIFIED
_QUEUED: Final = task_pb2.TASK_STATE_QUEUED
_RUNNING: Final = task_pb2.TASK_STATE_RUNNING
_WAITING: Final = task_pb2.TASK_STATE_WAITING
_DEAD: Final = task_pb2.TASK_STATE_DEAD_LETTERED

TERMINAL: Final = frozenset(
    {
        task_pb2.TASK_STATE_SUCCEEDED,
        task_pb2.TASK_STATE_PARTIAL,
        task_pb2.TASK_STATE_FAILED,
        task_pb2.TASK_STATE_CANCELLED,
        _DEAD,
    }
)


@dataclass(frozen=True, slots=True)
class Transition:
    """Where an event may happen and where it may lead."""

    before: frozenset[task_pb2.TaskState]
    after: frozenset[task_pb2.TaskState]


def _transition(before: set[task_pb2.TaskState], after: set[task_pb2.TaskState]) -> Transition:
    return Transition(frozenset(before), frozenset(after))


TRANSITIONS: Final[Mapping[str, Transition]] = {
    "submitted": _transition({_NEW}, {_QUEUED}),
    "started": _transition({_QUEUED, _RUNNING}, {_RUNNING}),
    "model_called": _transition({_RUNNING}, {_RUNNING}),
    "tool_intended": _transition({_RUNNING}, {_RUNNING}),
    "tool_called": _transition({_RUNNING}, {_RUNNING}),
    "degraded": _transition({_RUNNING}, {_RUNNING}),
    "cancel_requested": _transition({_RUNNING}, {_RUNNING}),
    "waiting": _transition({_RUNNING}, {_WAITING}),
    "resumed": _transition({_WAITING}, {_QUEUED}),
    "retried": _transition({_RUNNING}, {_QUEUED}),
    "completed": _transition(
        {_RUNNING}, {task_pb2.TASK_STATE_SUCCEEDED, task_pb2.TASK_STATE_PARTIAL}
    ),
    "failed": _transition({_QUEUED, _RUNNING}, {task_pb2.TASK_STATE_FAILED}),
    "cancelled": _transition({_QUEUED, _RUNNING, _WAITING}, {task_pb2.TASK_STATE_CANCELLED}),
    "dead_lettered": _transition({_QUEUED, _RUNNING}, {_DEAD}),
    "redriven": _transition({_DEAD}, {_QUEUED}),
    "discarded": _transition({_DEAD}, {_DEAD}),
    # It keeps the state it finds.
    "expired": Transition(TERMINAL, TERMINAL),
}

# These are steps: each is one piece of work done for the task.
STEP_KINDS: Final = frozenset({"model_called", "tool_called"})


def check(kind: str, before: task_pb2.TaskState, after: task_pb2.TaskState) -> None:
    """Refuses an event that the table does not allow.

    Raises:
        TaskStateError: `kind` cannot happen in `before`, or cannot lead to `after`.
    """
    transition = TRANSITIONS[kind]
    if before not in transition.before or after not in transition.after:
        raise TaskStateError(
            f"A task that is {state_name(before)} cannot become {state_name(after)}"
            f" by the event {kind!r}.",
            metadata={"state": state_name(before)},
        )


def advance(
    status: TaskStatus,
    event: TaskEvent,
    *,
    sequence: int,
    time: datetime,
    state: task_pb2.TaskState | None = None,
    usage: usage_pb2.Usage | None = None,
    notes: Sequence[task_pb2.TaskNote] = (),
) -> TaskEvent:
    """Completes `event` (its kind, task and writer are set) as the one after `status`.

    Args:
        status: The task before the event; not changed.
        event: Filled in and returned: sequence, time, usage and the status after it.
        sequence: The event's number within the task, from 1.
        time: When it happened.
        state: The state after it, where the kind allows more than one; an expired
            task keeps its own.
        usage: What it consumed.
        notes: What the reader of the result should know of it.

    Raises:
        TaskStateError: The event cannot happen now.
    """
    kind = event.WhichOneof("kind")
    assert kind is not None, "an event says what happened"
    if state is not None:
        after = state
    elif kind == "expired":
        after = status.state
    else:
        (after,) = TRANSITIONS[kind].after
    check(kind, status.state, after)
    if status.discarded and kind in ("redriven", "discarded"):
        raise TaskStateError(
            f"A dead letter that was discarded cannot be {kind}.",
            metadata={"state": state_name(status.state)},
        )

    event.sequence = sequence
    set_time(event.time, time)
    new = event.status
    new.CopyFrom(status)
    new.state = after
    if kind == "started":
        new.attempt += 1
        if not new.HasField("start_time"):
            new.start_time.CopyFrom(event.time)
    if kind in STEP_KINDS or (kind == "completed" and event.completed.HasField("model_called")):
        new.steps += 1
    if kind == "cancel_requested":
        new.cancel_requested = True
    if kind == "waiting":
        new.wait_start_time.CopyFrom(event.time)
    if kind == "resumed":
        # The time limit does not count what others took.
        waited = event.time.ToDatetime() - status.wait_start_time.ToDatetime()
        new.deadline.FromDatetime(status.deadline.ToDatetime() + max(waited, timedelta()))
        new.ClearField("wait_start_time")
    if kind == "redriven":
        new.ClearField("end_time")
        new.cancel_requested = False
        new.attempt = 0
        new.deadline.FromDatetime(time + status.time_limit.ToTimedelta())
    if kind == "discarded":
        new.discarded = True
    if usage is not None:
        event.usage.CopyFrom(usage)
        add_usage(new.usage, usage)
    new.notes.extend(notes)
    if after in TERMINAL and not new.HasField("end_time"):
        new.end_time.CopyFrom(event.time)
    return event


def set_time(stamp: Timestamp, time: datetime) -> None:
    """As FromDatetime, at a quarter of the cost. A time without a zone is UTC."""
    since = time - (_EPOCH if time.tzinfo else _EPOCH.replace(tzinfo=None))
    stamp.seconds = since.days * 86_400 + since.seconds
    stamp.nanos = since.microseconds * 1_000


def add_usage(total: usage_pb2.Usage, more: usage_pb2.Usage) -> None:
    """Adds `more` to `total`, in place."""
    total.input_tokens += more.input_tokens
    total.output_tokens += more.output_tokens
    total.cost_micros += more.cost_micros
    total.model_calls += more.model_calls
    total.tool_calls += more.tool_calls
    total.cache_hits += more.cache_hits
    total.cached_input_tokens += more.cached_input_tokens


def state_name(state: task_pb2.TaskState) -> str:
    """`QUEUED` for TASK_STATE_QUEUED; `new` where the task does not exist yet."""
    if state == _NEW:
        return "new"
    return task_pb2.TaskState.Name(state).removeprefix("TASK_STATE_")


def new_event(task: str, writer: str) -> TaskEvent:
    """An event without a kind yet."""
    return task_event_pb2.TaskEvent(task=task, writer=writer)
