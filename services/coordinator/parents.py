"""Which tasks may have children, and how many."""

from collections.abc import Sequence
from typing import Final, Protocol

from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit import names
from meshkit.errors import InvalidField, TaskNotFound, TaskStateError
from tasklog import lifecycle
from tasklog.task_log import Entry

# How many tasks may stand above a task.
MAX_DEPTH: Final = 5
# How many of a task's children may be open.
MAX_CHILDREN: Final = 100
_FIELD: Final = "task.parent_task"


class Log(Protocol):
    """The event log of every task."""

    async def last(self, tenant: str, task_id: str) -> Entry | None: ...
    async def task(self, tenant: str, task_id: str) -> Task: ...


class Children(Protocol):
    """Knows the children of every task, a moment late."""

    async def open_children(self, tenant: str, task_id: str) -> Sequence[str]: ...


class Parents:
    """A Gate for tasks that clients submit as children of others."""

    def __init__(self, log: Log, children: Children) -> None:
        self._log = log
        self._children = children

    async def check(self, task: Task) -> None:
        """Returns, and says how deep the task stands, if it may be a child of its parent.

        Children that are submitted at the same moment do not see each other,
        so a parent may get a few more than MAX_CHILDREN.

        Raises:
            InvalidField: There is no such parent, it is another tenant's, it stands too
                deep, or it has too many children.
            TaskStateError: The parent has ended, or is about to.
        """
        if not task.parent_task:
            return
        tenant, parent_id = names.TASK.parse(task.parent_task, field=_FIELD)
        if tenant != task.tenant:
            raise InvalidField(_FIELD, f"must be a task of tenant {task.tenant!r}")
        try:
            parent = await self._log.task(tenant, parent_id)
        except TaskNotFound as error:
            raise InvalidField(
                _FIELD, f"must be a task that exists, not {task.parent_task!r}"
            ) from error
        if parent.state in lifecycle.TERMINAL:
            state = lifecycle.state_name(parent.state)
            raise _not_open(parent, state, f"has ended: it is {state}.")
        if await self.was_cancelled(task.parent_task):
            raise _not_open(parent, lifecycle.state_name(parent.state), "is being cancelled.")
        if parent.depth >= MAX_DEPTH:
            raise InvalidField(
                _FIELD,
                f"must be a task with fewer than {MAX_DEPTH} tasks above it;"
                f" {task.parent_task!r} has {parent.depth}",
            )
        if len(await self._children.open_children(tenant, parent_id)) >= MAX_CHILDREN:
            raise InvalidField(
                _FIELD,
                f"must be a task with fewer than {MAX_CHILDREN} open children."
                " Wait until some have ended",
            )
        task.depth = parent.depth + 1

    async def was_cancelled(self, parent_task: str) -> bool:
        """Whether the task called `parent_task` was cancelled, or is about to be."""
        last = await self._log.last(*names.TASK.parse(parent_task, field=_FIELD))
        return last is not None and (
            last.event.status.cancel_requested or last.event.HasField("cancelled")
        )


def _not_open(parent: Task, state: str, how_it_stands: str) -> TaskStateError:
    return TaskStateError(
        f"{parent.name} {how_it_stands} Only an open task can have children.",
        metadata={"state": state},
    )
