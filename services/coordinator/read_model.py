"""Tasks to list: a copy of what the log says, kept where it can be searched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task

# What the position of a page looks like: creation time in microseconds, and task id.
POSITION: Final = r"[0-9]{1,18}/[a-z0-9-]{1,63}"
# Lists show the beginning of an input; GetTask answers the whole.
_INPUT_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks of a tenant are wanted; an empty field means any."""

    tenant: str
    states: Sequence[task_pb2.TaskState] = ()
    # Any version, unless it ends in `@version`.
    agent: str = ""
    session: str = ""
    lane: tier_pb2.Lane = tier_pb2.LANE_UNSPECIFIED
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some tasks, newest first, and the position of the next page."""

    tasks: Sequence[Task]
    # Empty on the last page.
    next_position: str


class ReadModel(Protocol):
    """Keeps the tasks of all tenants for listing."""

    async def apply(self, events: Sequence[TaskEvent]) -> None:
        """Takes over events, in the order of the log. Repeats change nothing."""
        ...

    async def list(self, wanted: TaskFilter, *, position: str | None, limit: int) -> Page:
        """One page of the tasks that are wanted."""
        ...


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
        case "failed" | "dead_lettered" | "waiting":
            pass
        case _:
            # Only the status counts, and that stands in every event.
            short.ClearField(event.WhichOneof("kind") or "submitted")
    return short
