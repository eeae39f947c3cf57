"""A task, as its log tells it."""

from collections.abc import Iterable

from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit import names
from meshkit.errors import CorruptData
from tasklog import lifecycle


def task_of(first: TaskEvent, last: TaskEvent) -> Task:
    """The task after `last`.

    Two events are enough: `first` holds what was asked for, and every event
    holds the task's status after it, so no other event has to be read. Where
    retention removed the content, the event that says so is both.

    Raises:
        CorruptData: `first` is not a submission.
    """
    task = Task()
    match first.WhichOneof("kind"):
        case "submitted":
            task.CopyFrom(first.submitted.task)
        case "expired":
            task.CopyFrom(_remainder(first))
        case _:
            raise CorruptData(f"The log of {first.task} does not begin with its submission.")
    status = last.status
    task.state = status.state
    task.attempt = status.attempt
    task.steps = status.steps
    task.usage.CopyFrom(status.usage)
    task.last_sequence = last.sequence
    del task.notes[:]
    task.notes.extend(status.notes)
    if status.HasField("deadline"):
        task.deadline.CopyFrom(status.deadline)
    for field in ("start_time", "end_time"):
        if status.HasField(field):
            getattr(task, field).CopyFrom(getattr(status, field))
    match last.WhichOneof("kind"):
        case "completed":
            task.output.CopyFrom(last.completed.output)
            task.citations.extend(last.completed.citations)
        case "failed":
            task.error.CopyFrom(last.failed.error)
        case "dead_lettered":
            task.error.CopyFrom(last.dead_lettered.error)
        case "discarded":
            task.error.CopyFrom(last.discarded.error)
        case "waiting":
            task.wait.CopyFrom(last.waiting.wait)
        case _:
            pass
    return task


def _remainder(expired: TaskEvent) -> Task:
    """What is known of a task whose content retention removed."""
    status = expired.status
    return Task(
        name=expired.task,
        tenant=names.TASK.parse(expired.task, field="task")[0],
        agent=expired.expired.agent,
        lane=status.lane,
        priority=status.priority,
        parent_task=status.parent_task,
        create_time=status.create_time,
        deadline=status.deadline,
    )


def replay(events: Iterable[TaskEvent]) -> TaskEvent:
    """Checks that `events` are a whole log and answers the last one.

    Raises:
        CorruptData: An event is missing, doubled, or not allowed where it stands.
    """
    last: TaskEvent | None = None
    for event in events:
        expected = 1 if last is None else last.sequence + 1
        # Retention leaves a log that begins, and ends, with the event that says so.
        if event.sequence != expected and not (last is None and event.HasField("expired")):
            raise CorruptData(
                f"The log of {event.task} has event {event.sequence} where {expected} belongs."
            )
        if last is None and event.HasField("expired"):
            last = event
            continue
        before = TaskEvent().status.state if last is None else last.status.state
        lifecycle.check(event.WhichOneof("kind") or "", before, event.status.state)
        last = event
    if last is None:
        raise CorruptData("The log is empty.")
    return last
