"""The coordinator on a real broker, and an executor that a test plays; only for tests."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.agent_service_pb2_grpc import AgentServiceStub
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from agentmesh.coordinator.v1.queue_service_pb2_grpc import QueueServiceStub
from agentmesh.coordinator.v1.read_model_service_pb2_grpc import ReadModelServiceStub
from agentmesh.coordinator.v1.schedule_service_pb2_grpc import ScheduleServiceStub
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from meshkit import identity
from meshkit.bus import Bus
from meshkit.clock import Clock
from meshkit.identity import Identity
from meshtest.hosting import hosting
from meshtest.scripted import ScriptedGovernor, registrations
from services.coordinator.main import build
from services.coordinator.settings import CoordinatorSettings
from tasklog import lifecycle
from tasklog.partitions import Partitions
from tasklog.task_log import TaskLog

PARENT = "tenants/acme"


@dataclass
class Mesh:
    """What a test talks to."""

    tasks: CoordinatorServiceStub
    agents: AgentServiceStub
    queues: QueueServiceStub
    read_model: ReadModelServiceStub
    schedules: ScheduleServiceStub
    governor: ScriptedGovernor
    log: TaskLog
    bus: Bus

    async def submit(self, text: str = "hello", request_id: str = "", **fields: object) -> Task:
        """The task, as accepted."""
        task = Task(input=TaskInput(text=text), **fields)  # type: ignore[arg-type]
        answer = await self.tasks.SubmitTask(
            pb.SubmitTaskRequest(parent=PARENT, task=task, request_id=request_id), timeout=60
        )
        return answer.task

    async def execute(self, task: Task, *kinds: str) -> None:
        """Appends events as an executor would."""
        task_id = task.name.rpartition("/")[2]
        for kind in kinds:
            last = await self.log.last("acme", task_id)
            assert last is not None
            event = lifecycle.new_event(task.name, "executor/test")
            getattr(event, kind).SetInParent()
            if kind == "completed":
                event.completed.output.text = "done"
            lifecycle.advance(
                last.event.status,
                event,
                sequence=last.event.sequence + 1,
                time=last.event.time.ToDatetime(),
                state=task_pb2.TASK_STATE_SUCCEEDED if kind == "completed" else None,
            )
            await self.log.append("acme", task_id, event, after=last.stream_sequence)


@asynccontextmanager
async def coordinator(
    nats_url: str,
    data_dir: Path,
    *,
    clock: Clock | None = None,
    settings: CoordinatorSettings | None = None,
) -> AsyncGenerator[Mesh]:
    """A coordinator, called for the tenant acme. There may be more on the same broker.

    Args:
        nats_url: The broker.
        data_dir: Where it keeps files; no two may share it.
        clock: The system's where None.
        settings: The built-in ones where None, and everybody is an operator.
    """
    governor = ScriptedGovernor()  # pyright: ignore[reportAbstractUsage]
    async with (
        hosting(
            [lambda resources: build(resources, settings or CoordinatorSettings(operators=["*"]))],
            data_dir=data_dir,
            nats_url=nats_url,
            beside=registrations(governor),
            clock=clock,
        ) as channels,
        await Bus.connect(nats_url, name="test") as bus,
    ):
        with identity.use(Identity("acme", "user:test")):
            yield Mesh(
                CoordinatorServiceStub(channels.get("coordinator")),
                AgentServiceStub(channels.get("coordinator")),
                QueueServiceStub(channels.get("coordinator")),
                ReadModelServiceStub(channels.get("coordinator")),
                ScheduleServiceStub(channels.get("coordinator")),
                governor,
                TaskLog(bus, Partitions()),
                bus,
            )


@pytest.fixture
async def mesh(nats_url: str, tmp_path: Path) -> AsyncIterator[Mesh]:
    """A coordinator, called for the tenant acme."""
    async with coordinator(nats_url, tmp_path) as mesh:
        yield mesh
