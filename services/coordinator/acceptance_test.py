"""What is accepted once stays accepted, also where a replica of the broker is behind."""

from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from agentmesh.coordinator.v1.task_event_pb2 import TaskWaiting
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from meshkit.bus import Bus
from meshkit.errors import DependencyUnavailable, TaskNotFound
from meshtest.clock import FakeClock
from services.coordinator.acceptance import Acceptance
from services.coordinator.family import Family
from services.coordinator.schedule_world import Agents
from tasklog.partitions import Partitions
from tasklog.policy_store import PolicyStore
from tasklog.queues import Queues
from tasklog.task_log import Entry, TaskLog

pytest_plugins = ["meshtest.fixtures"]

TASK = Task(name="tenants/acme/tasks/t1", tenant="acme", input=TaskInput(text="once"))


class Behind(TaskLog):
    """A log that is read where nothing of it has arrived yet, and written where all of it is."""

    async def last(self, tenant: str, task_id: str) -> Entry | None:
        return None

    async def task(self, tenant: str, task_id: str) -> Task:
        raise TaskNotFound(f"There is no task {task_id!r}.")

    async def read(
        self,
        tenant: str,
        task_id: str,
        *,
        from_stream_sequence: int = 1,
        batch: int = 256,
        lenient: bool = False,
    ) -> AsyncGenerator[Entry]:
        for entry in ():
            yield entry


class NoCancels:
    """Nothing is to be cancelled."""

    async def cancel(self, tenant: str, task_id: str, reason: str) -> Task:
        raise AssertionError


@pytest.fixture
async def behind(nats_url: str, clock: FakeClock) -> AsyncIterator[tuple[TaskLog, Acceptance]]:
    """A log that is behind, and what accepts tasks on it; the task t1 was accepted already."""
    async with await Bus.connect(nats_url, name="test") as bus:
        log, policies = TaskLog(bus, Partitions()), PolicyStore(bus)
        await log.prepare()
        await policies.prepare()

        def acceptance(log: TaskLog) -> Acceptance:
            return Acceptance(
                log=log,
                queues=Queues(bus, Partitions(), policies),
                policies=policies,
                agents=Agents(),
                clock=clock,
                writer="coordinator/test",
            )

        await acceptance(log).accept("acme", TASK, task_id="t1", gates=())
        late = Behind(bus, Partitions())
        yield late, acceptance(late)


async def test_a_repeat_that_meets_a_late_replica_is_to_be_made_again(
    behind: tuple[TaskLog, Acceptance],
) -> None:
    """Nobody is told that there is no such task: it was accepted."""
    _, acceptance = behind
    with pytest.raises(DependencyUnavailable) as refused:
        await acceptance.accept("acme", TASK, task_id="t1", gates=())
    assert refused.value.message == "The broker does not show 'tenants/acme/tasks/t1' yet."


async def test_a_child_that_a_late_replica_does_not_show_is_not_taken_for_refused(
    behind: tuple[TaskLog, Acceptance],
) -> None:
    """Its parent would go on without it while it works."""
    log, acceptance = behind
    family = Family(log, acceptance, NoCancels(), gates=())
    with pytest.raises(DependencyUnavailable):
        await family.standing("acme", TaskWaiting(children=[TASK]), submit=True)
