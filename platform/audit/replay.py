"""Whoever replays a log comes to the status that each event records."""

from datetime import UTC
from typing import Final

from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskStatus
from audit.entry import Entry
from audit.finding import Finding, Invariant, finding
from meshkit.errors import TaskStateError
from tasklog import lifecycle

_UNTOUCHED: Final = task_pb2.TASK_STATE_UNSPECIFIED


def check(before: TaskStatus | None, entry: Entry) -> list[Finding]:
    """Whether the status after `entry` follows from the one before it.

    Args:
        before: The status before; None where the task begins here.
        entry: The event.
    """
    event, kind = entry.event, entry.kind
    if before is None:
        before = _accepted(event)
    try:
        expected = _expected(before, event, kind)
    except TaskStateError as error:
        return [_finding(entry, error.message)]
    found: list[Finding] = []
    if expected.status != event.status:
        found += _differences(expected.status, entry)
    wrong = _wrong_number(before, event, kind)
    if wrong:
        found.append(_finding(entry, wrong))
    return found


def _expected(before: TaskStatus, event: TaskEvent, kind: str) -> TaskEvent:
    """The same thing, happening to the task as it was before."""
    again = TaskEvent()
    if kind == "completed" and event.completed.HasField("model_called"):
        again.completed.model_called.SetInParent()
    else:
        getattr(again, kind).SetInParent()
    after = event.status
    return lifecycle.advance(
        before,
        again,
        sequence=event.sequence,
        time=event.time.ToDatetime(tzinfo=UTC),
        state=after.state,
        usage=event.usage if event.HasField("usage") else None,
        notes=after.notes[len(before.notes) :] if len(after.notes) > len(before.notes) else (),
    )


def _accepted(event: TaskEvent) -> TaskStatus:
    """What acceptance may decide; everything else is still as in a task that never was."""
    task, status = event.submitted.task, event.status
    before = TaskStatus(
        lane=task.lane,
        priority=task.priority,
        parent_task=task.parent_task,
        state=_UNTOUCHED,
    )
    before.create_time.CopyFrom(status.create_time)
    if status.HasField("deadline"):
        before.deadline.CopyFrom(status.deadline)
    if status.HasField("time_limit"):
        before.time_limit.CopyFrom(status.time_limit)
    return before


def _differences(expected: TaskStatus, entry: Entry) -> list[Finding]:
    actual = entry.event.status
    found: list[Finding] = []
    if expected.usage != actual.usage:
        found.append(
            finding(
                Invariant.USAGE,
                entry.task,
                f"Event {entry.event.sequence} ({entry.kind}) records a usage of"
                f" {_told(actual.usage)}; its events add up to {_told(expected.usage)}.",
                entry.stream_sequence,
            )
        )
    names = [
        field.name
        for field in TaskStatus.DESCRIPTOR.fields
        if field.name != "usage" and getattr(expected, field.name) != getattr(actual, field.name)
    ]
    if names:
        found.append(
            _finding(
                entry, f"Its status does not follow from the event before: {', '.join(names)}."
            )
        )
    return found


def _told(usage: object) -> str:
    return " ".join(str(usage).replace(": ", "=").split()) or "nothing"


def _wrong_number(before: TaskStatus, event: TaskEvent, kind: str) -> str:
    """What an event says of itself that the status contradicts."""
    match kind:
        case "started" if event.started.attempt != before.attempt + 1:
            return f"It says it is attempt {event.started.attempt}, after {before.attempt}."
        case "started" if event.started.resumed_after != event.sequence - 1:
            return f"It continues after event {event.started.resumed_after}, not the one before it."
        case "model_called" if event.model_called.step != before.steps + 1:
            return f"It says it is step {event.model_called.step}, after {before.steps}."
        case "tool_called" if event.tool_called.step != before.steps + 1:
            return f"It says it is step {event.tool_called.step}, after {before.steps}."
        case "completed" if (
            event.completed.HasField("model_called")
            and event.completed.model_called.step != before.steps + 1
        ):
            return f"It says it is step {event.completed.model_called.step}, after {before.steps}."
        case _:
            return ""


def _finding(entry: Entry, sentence: str) -> Finding:
    return finding(
        Invariant.REPLAY,
        entry.task,
        f"Event {entry.event.sequence} ({entry.kind}) does not replay: {sentence}",
        entry.stream_sequence,
    )
