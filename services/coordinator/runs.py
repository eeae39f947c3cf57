"""A task accepted and followed to its end in one go."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, Protocol

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1.coordinator_service_pb2 import TextDelta
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit.bus import Bus
from meshkit.errors import CorruptData
from services.coordinator.acceptance import Accepted
from services.coordinator.linger import Linger
from services.coordinator.updates import with_deltas
from tasklog import fold, lifecycle, subjects
from tasklog.following import Following
from tasklog.task_log import Entry, TaskLog


class Tasks(Protocol):
    """Accepts tasks and shows them."""

    def task_id(self, tenant: str, request_id: str) -> str: ...
    async def submit(
        self, tenant: str, requested: Task, request_id: str, *, task_id: str
    ) -> Accepted: ...
    async def get(self, tenant: str, task_id: str) -> Task: ...


class Runs:
    """Runs tasks for callers who wait for them.

    Who waits listens before the task is stored. So nothing of a new task is
    missed, and its log need not be read at all. Before that a task may linger:
    nothing has been accepted by then, and its caller waits for its end anyway.
    """

    def __init__(self, tasks: Tasks, log: TaskLog, bus: Bus, linger: Linger) -> None:
        self._tasks: Final = tasks
        self._log: Final = log
        self._bus: Final = bus
        self._linger: Final = linger

    async def run(
        self, tenant: str, requested: Task, request_id: str, *, after_sequence: int
    ) -> AsyncGenerator[Task | TaskEvent | TextDelta]:
        """The task, its events after `after_sequence` with the model's words, the task as it ended.

        Raises:
            MeshError: What `Coordinator.submit` raises.
        """
        task_id = self._tasks.task_id(tenant, request_id)
        async with (
            self._linger.together(requested.lane),
            Following(self._log, tenant, task_id) as following,
        ):
            accepted = await self._tasks.submit(tenant, requested, request_id, task_id=task_id)
            yield accepted.task
            updates: AsyncGenerator[TaskEvent | TextDelta] = following.events(
                after_sequence=after_sequence, first=accepted.first
            )
            # In the other lanes nobody speaks: their executors ask for whole answers.
            if accepted.task.lane == tier_pb2.LANE_INTERACTIVE:
                updates = with_deltas(self._bus, tenant, task_id, updates)
            last: TaskEvent | None = None
            async with aclosing(updates) as each:
                async for update in each:
                    if isinstance(update, TaskEvent):
                        last = update
                    yield update
        yield await self._ended(tenant, task_id, accepted.first, last)

    async def result(self, tenant: str, requested: Task, request_id: str) -> AsyncGenerator[Task]:
        """The task as it is accepted, and as it ended.

        Raises:
            MeshError: What `Coordinator.submit` raises.
        """
        task_id = self._tasks.task_id(tenant, request_id)
        async with (
            self._linger.together(requested.lane),
            Following(self._log, tenant, task_id, tokens=subjects.ENDS) as following,
        ):
            accepted = await self._tasks.submit(tenant, requested, request_id, task_id=task_id)
            yield accepted.task
            last: TaskEvent | None = None
            if accepted.task.state not in lifecycle.TERMINAL:
                try:
                    last = await following.end()
                except CorruptData:
                    # It has ended, and how is for `get` to say as well as can be.
                    last = None
        yield await self._ended(tenant, task_id, accepted.first, last)

    async def _ended(
        self, tenant: str, task_id: str, first: Entry | None, last: TaskEvent | None
    ) -> Task:
        # With lost content, `get` says what is missing.
        if first is None or last is None or last.completed.output.HasField("blob"):
            return await self._tasks.get(tenant, task_id)
        return fold.task_of(first.event, last)
