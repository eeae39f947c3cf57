"""Schedules on a real broker, whose time a test moves; only for tests."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.schedule_service_pb2 import Schedule
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec, TaskEvent, TaskWorker
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from meshkit.bus import Bus
from meshkit.errors import AgentNotFound, MeshError
from meshtest.clock import FakeClock
from meshtest.ids import FakeIds
from services.coordinator.acceptance import Acceptance
from services.coordinator.schedule_store_jetstream import JetStreamScheduleStore
from services.coordinator.schedule_ticks import Ticks
from services.coordinator.schedules import Schedules, Stored
from tasklog import lifecycle
from tasklog.partitions import Partitions
from tasklog.policy_store import PolicyStore
from tasklog.queues import Queues
from tasklog.task_log import TaskLog


class Agents:
    """Knows one agent."""

    async def resolve(self, tenant: str, wanted: str) -> AgentSpec:
        if wanted:
            raise AgentNotFound(f"There is no agent {wanted!r}.")
        return AgentSpec(name=f"tenants/{tenant}/agents/assistant@1")

    async def workers(self, tenant: str, agent: AgentSpec) -> Sequence[TaskWorker]:
        return ()


@dataclass
class Barrier:
    """A Gate that refuses with `error`, if it is set."""

    error: MeshError | None = None
    asked: int = 0

    async def check(self, task: Task) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error


@dataclass
class World:
    """Schedules on a real broker, and a clock that the test moves."""

    clock: FakeClock
    store: JetStreamScheduleStore
    log: TaskLog
    schedules: Schedules
    barrier: Barrier
    ticks: Ticks
    make_ticks: Callable[[], Ticks]
    bus: Bus
    id: str = "nightly"

    async def create(self, cron: str = "0 * * * *", **fields: object) -> Schedule:
        """A schedule of the tenant acme."""
        wanted = Schedule(cron=cron, task=Task(input=TaskInput(text="run")), **fields)  # type: ignore[arg-type]
        return await self.schedules.create("acme", self.id, wanted, "")

    async def stored(self) -> Stored:
        """The schedule as it is stored."""
        stored = await self.store.read("acme", self.id)
        assert stored is not None
        return stored

    async def look(self, ticks: Ticks | None = None) -> datetime | None:
        """Attends to the schedule as it stands, as its delivery would have it."""
        return await (ticks or self.ticks).attend("acme", self.id, (await self.stored()).sequence)

    async def settle(self) -> Schedule:
        """Looks until nothing is due any more; the schedule then."""
        while True:
            before = await self.stored()
            if not before.schedule.HasField("next_run_time"):
                return before.schedule
            await self.look()
            after = await self.stored()
            if after.sequence == before.sequence:
                return after.schedule

    async def pass_to(self, text: str) -> Schedule:
        """Lets time pass to `text`, such as `2026-01-01 09:00`, then settles."""
        time = datetime.fromisoformat(text).replace(tzinfo=UTC)
        await self.clock.advance((time - self.clock.now()).total_seconds())
        return await self.settle()

    async def runs(self) -> list[Task]:
        """All tasks that were submitted, in order."""
        tasks: list[Task] = []
        async for message in self.bus.read("TASKS", "task.>"):
            event = TaskEvent.FromString(message.payload)
            if event.HasField("submitted"):
                tasks.append(event.submitted.task)
        return tasks

    async def end(self, name: str) -> None:
        """Runs the task to its end."""
        task_id = name.rpartition("/")[2]
        for event, state in (
            (TaskEvent(started={}), None),
            (TaskEvent(completed={}), task_pb2.TASK_STATE_SUCCEEDED),
        ):
            last = await self.log.last("acme", task_id)
            assert last is not None
            event.task = name
            sequence = last.event.sequence + 1
            lifecycle.advance(
                last.event.status, event, sequence=sequence, time=self.clock.now(), state=state
            )
            await self.log.append("acme", task_id, event, after=last.stream_sequence)


@pytest.fixture
async def world(nats_url: str, clock: FakeClock, ids: FakeIds) -> AsyncIterator[World]:
    """Schedules at 2026-01-01 00:00."""
    async with await Bus.connect(nats_url, name="test") as bus:
        log, store = TaskLog(bus, Partitions()), JetStreamScheduleStore(bus)
        policies = PolicyStore(bus)
        for each in (log, store, policies):
            await each.prepare()
        barrier = Barrier()
        acceptance = Acceptance(
            log=log,
            queues=Queues(bus, Partitions(), policies),
            policies=policies,
            agents=Agents(),
            clock=clock,
            writer="coordinator/test",
        )

        def make_ticks() -> Ticks:
            return Ticks(
                store=store, log=log, acceptance=acceptance, gates=(barrier,), clock=clock, ids=ids
            )

        schedules = Schedules(store, Agents(), clock, ids)
        yield World(clock, store, log, schedules, barrier, make_ticks(), make_ticks, bus)
