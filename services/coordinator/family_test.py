"""How a coordinator looks at the children that a task waits for."""

import asyncio
from typing import Any

from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskWaiting
from agentmesh.coordinator.v1.task_pb2 import Task
from services.coordinator.family import Family
from tasklog.task_log import Entry


class SlowLog:
    """A log that answers when ten have asked: whoever asks one by one waits for ever."""

    def __init__(self) -> None:
        self._ten = asyncio.Barrier(10)

    async def last(self, tenant: str, task_id: str) -> Entry | None:
        raise AssertionError

    async def task(self, tenant: str, task_id: str) -> Task:
        await self._ten.wait()
        name = f"tenants/{tenant}/tasks/{task_id}"
        return Task(name=name, state=task_pb2.TASK_STATE_SUCCEEDED)


async def test_children_are_looked_at_side_by_side_and_told_in_order() -> None:
    """A coordinator has some seconds for a hundred, and none would be left of a slow broker."""
    names = [f"tenants/acme/tasks/t{number}" for number in range(100)]
    waiting = TaskWaiting(children=[Task(name=name) for name in names])
    nobody: Any = None
    family = Family(SlowLog(), nobody, nobody, gates=())
    async with asyncio.timeout(60):
        standing = await family.standing("acme", waiting, submit=False)
    assert [result.task for result in standing.results] == names
    assert standing.have_ended
