"""Tasks to list: a copy of what the log says, kept where it can be searched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_pb2 import Task

# What the position of a page looks like: a time in microseconds, and task id.
POSITION: Final = r"[0-9]{1,18}/[a-z0-9-]{1,63}"


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
    """Some tasks, newest first, and the position of the next page.

    There may be fewer than were asked for, or none, though others follow: where
    each filter fits many tasks and all of them few, a page looks at so many only.
    """

    tasks: Sequence[Task]
    # Empty on the last page.
    next_position: str


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters of a tenant are wanted; an empty field means any."""

    tenant: str
    lane: tier_pb2.Lane = tier_pb2.LANE_UNSPECIFIED
    reason: str = ""
    # Only those that came before this time.
    before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: a task whose every attempt failed."""

    task: Task
    # When it came.
    time: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class LetterPage:
    """Some dead letters, the last to come first, and the position of the next page.

    There may be fewer than were asked for, or none, though others follow: a page
    looks at so many only, whatever they are filtered by.
    """

    letters: Sequence[Letter]
    # Empty on the last page.
    next_position: str


class ReadModel(Protocol):
    """Keeps the tasks of all tenants for listing."""

    async def list(self, wanted: TaskFilter, *, position: str | None, limit: int) -> Page:
        """One page of the tasks that are wanted; it may be short, with others to follow.

        DependencyUnavailable where it cannot be read.
        """
        ...

    async def dead_letters(
        self, wanted: DeadLetterFilter, *, position: str | None, limit: int
    ) -> LetterPage:
        """One page of the dead letters that are wanted; none that were discarded."""
        ...

    async def open_children(self, tenant: str, task_id: str) -> Sequence[str]:
        """Ids of the task's children that have not ended."""
        ...
