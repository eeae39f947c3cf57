"""Which tasks may have children."""

from typing import Final, Protocol

from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit import names
from meshkit.errors import InvalidField, TaskNotFound, TaskStateError
from tasklog import lifecycle
from tasklog.task_log import Entry

# How many tasks may stand above a task.
MAX_DEPTH: Final = 5
_FIELD: Final = "task.parent_task"


class Log(Protocol):
    """The event log of every task."""

    async def last(self, tenant: str, task_id: str) -> Entry | None: ...
    async def task(self, tenant: str, task_id: str) -> Task: ...


class Parents:
    """A Gate for tasks that clients submit as children of others."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def check(self, task: Task) -> None:
        """Returns, and says how deep the task stands, if it may be a child of its parent.

        Raises:
            InvalidField: There is no such parent, it is another tenant's, or it stands
                too deep.
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
