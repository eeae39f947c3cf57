"""Retention as a coordinator has it, at a time that the test sets; only for tests."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.queue_service_pb2 import TenantTier
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit import log as meshlog
from meshkit.bus import Bus
from meshkit.ids import RandomIds
from meshtest.clock import FakeClock
from services.coordinator.coordinator_mesh import Mesh
from services.coordinator.ended_tasks_sql import SqlEndedTasks
from services.coordinator.projector import task_projector
from services.coordinator.read_model_file import SqliteFiles
from services.coordinator.read_model_sql import SqlReadModel
from services.coordinator.read_model_writer import ReadModelWriter
from services.coordinator.retention import Retention
from services.coordinator.task_content_jetstream import JetStreamTaskContent
from services.coordinator.task_row import Recorded
from sqlstore.projector import Projector
from tasklog import subjects
from tasklog.partitions import WHOLE, Partitions
from tasklog.policy import built_in
from tasklog.policy_store import PolicyStore
from tasklog.task_log import TaskLog

DAY = 86_400.0
# An input that goes to the object store.
LARGE = "x" * 70_000


@dataclass
class Bench:
    """A mesh, and what a test does to it over time."""

    mesh: Mesh
    clock: FakeClock
    policies: PolicyStore
    folder: Path
    stack: AsyncExitStack

    async def retention(
        self, bus: Bus | None = None, *, writer: str = "coordinator/test"
    ) -> "Keeper":
        """A coordinator's retention, with a read model of its own that begins the log anew.

        `bus`: what it changes things through.
        """
        own = bus or self.mesh.bus
        folder = self.folder / RandomIds().new()
        database = await SqliteFiles.open(folder, RandomIds())
        self.stack.push_async_callback(database.close)
        ended, model = SqlEndedTasks(database), SqlReadModel(database)
        journal = meshlog.get("test", stream=io.StringIO())
        projector = task_projector(
            self.mesh.bus, ReadModelWriter(database), journal, partitions=Partitions().all
        )
        run = asyncio.create_task(projector.run())
        self.stack.callback(run.cancel)
        retention = Retention(
            ended=ended,
            log=TaskLog(own, Partitions()),
            content=JetStreamTaskContent(own, Partitions()),
            policies=self.policies,
            clock=self.clock,
            writer=writer,
            journal=journal,
        )
        projector.on_applied(retention.look)
        return Keeper(self.mesh, retention, ended, model, projector, run)

    async def tier(self, **limits: object) -> None:
        """Puts the tenant into a tier of its own."""
        policy = built_in()
        own = TenantTier()
        own.CopyFrom(policy.tenant_tiers[1])
        own.MergeFrom(TenantTier(id="own", **limits))  # type: ignore[arg-type]
        policy.tenant_tiers.append(own)
        policy.tenants["acme"] = "own"
        await self.policies.set(policy)

    async def ended(self, text: str = "hello", kind: str = "completed", **fields: object) -> Task:
        """A task that has ended."""
        task = await self.mesh.submit(text, "", **fields)
        await self.mesh.execute(task, "started", kind)
        return task

    async def get(self, task: Task) -> Task:
        """The task as GetTask answers it."""
        answer = await self.mesh.tasks.GetTask(pb.GetTaskRequest(name=task.name), timeout=60)
        return answer.task

    async def events(self, task: Task) -> list[TaskEvent]:
        """What is left of a task's log."""
        return [entry.event async for entry in self.mesh.log.read_stored("acme", id_of(task))]

    async def kinds(self, task: Task) -> list[str | None]:
        """What happened, as far as the log still says."""
        return [event.WhichOneof("kind") for event in await self.events(task)]

    async def blobs(self, task: Task) -> int:
        """How many messages of large content the task has."""
        owner = subjects.owner("acme", id_of(task))
        return len(await self.mesh.bus.subjects("OBJ_blobs", f"$O.blobs.C.{owner}.>"))

    async def snapshot(self, task: Task) -> None:
        """Leaves a snapshot, as executors do."""
        subject = subjects.snapshot("acme", id_of(task))
        owner = subjects.owner("acme", id_of(task))
        await self.mesh.bus.put_blob(owner, b"segment", "application/x")
        await self.mesh.bus.append(subject, b"manifest", expected_last=0)

    async def has_snapshot(self, task: Task) -> bool:
        """Whether there is one."""
        last = await self.mesh.bus.last(subjects.SNAPSHOTS, subjects.snapshot("acme", id_of(task)))
        return last is not None


@dataclass
class Keeper:
    """One coordinator's retention."""

    mesh: Mesh
    retention: Retention
    ended: SqlEndedTasks
    model: SqlReadModel
    projector: Projector[Recorded]
    projection: asyncio.Task[None]

    async def lag(self) -> None:
        """From now on its read model hears of nothing."""
        self.projection.cancel()
        await asyncio.gather(self.projection, return_exceptions=True)

    async def caught_up(self) -> None:
        """Returns once its read model has all that is stored now."""
        info = await self.mesh.bus.stream_info(WHOLE.stream)
        assert info is not None
        await self.projector.wait_for(WHOLE.stream, info["state"]["last_seq"])

    async def remove_due(self) -> None:
        """Lets it remove what is due, knowing all that is stored."""
        await self.caught_up()
        await self.retention.remove_due()
        await self.caught_up()


def id_of(task: Task) -> str:
    """The last part of its name."""
    return task.name.rpartition("/")[2]


@pytest.fixture
async def bench(mesh: Mesh, tmp_path: Path) -> AsyncIterator[Bench]:
    """Everything ends now; the built-in policy is in force."""
    policies = PolicyStore(mesh.bus)
    await policies.prepare()
    async with AsyncExitStack() as stack:
        yield Bench(mesh, FakeClock(datetime.now(UTC)), policies, tmp_path / "own", stack)
