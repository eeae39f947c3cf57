"""A whole mesh for a test: real NATS, Redis and Envoy, and the real services."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from grpc_reflection.v1alpha import reflection_pb2 as reflection
from grpc_reflection.v1alpha import reflection_pb2_grpc as reflection_grpc

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from meshkit import identity
from meshkit.client import Channels
from meshkit.identity import Identity
from meshtest.everywhere import Everywhere
from tasklog import fold
from tier.api import Event, MeshOptions, RunningMesh, Tier, start

PARENT = "tenants/default"
# Of one call, on a machine that has much else to do.
_TIMEOUT_SECONDS = 60


class Client:
    """A user of the mesh, at its gateway."""

    def __init__(self, mesh: RunningMesh, channels: Channels) -> None:
        self.mesh = mesh
        self.channels = channels
        self.tasks = CoordinatorServiceStub(channels.get("gateway"))

    async def submit(self, text: str, request_id: str = "", **fields: object) -> Task:
        """The task, as accepted, of the tenant that the caller acts for."""
        task = Task(input=TaskInput(text=text), **fields)  # type: ignore[arg-type]
        parent = f"tenants/{identity.current().tenant}"
        answer = await self.tasks.SubmitTask(
            pb.SubmitTaskRequest(parent=parent, task=task, request_id=request_id),
            timeout=_TIMEOUT_SECONDS,
        )
        return answer.task

    async def get(self, name: str) -> Task:
        """The task, as it stands."""
        request = pb.GetTaskRequest(name=name)
        return (await self.tasks.GetTask(request, timeout=_TIMEOUT_SECONDS)).task

    async def reflected_services(self) -> set[str]:
        """Every service that the gateway's reflection lists."""

        async def ask() -> AsyncIterator[Any]:
            yield reflection.ServerReflectionRequest(list_services="")

        stub: Any = reflection_grpc.ServerReflectionStub(cast(Any, self.channels.get("gateway")))
        async for answer in stub.ServerReflectionInfo(ask(), timeout=_TIMEOUT_SECONDS):
            return {each.name for each in answer.list_services_response.service}
        return set()

    async def log(self, name: str) -> list[TaskEvent]:
        """The whole log of a task, which must replay without a fault."""
        answer = await self.tasks.ListTaskEvents(
            pb.ListTaskEventsRequest(name=name, page_size=1000), timeout=_TIMEOUT_SECONDS
        )
        fold.replay(answer.events)
        return list(answer.events)


def _tell(event: Event) -> None:
    """Shown by pytest where a test fails."""
    print(f"{event.seconds:7.3f} s  {event.part:12} {event.text}")


@asynccontextmanager
async def running(
    folder: Path,
    tier: Tier,
    *,
    config: Path | None = None,
    executors: int | None = None,
    task_partitions: int | None = None,
) -> AsyncGenerator[Client]:
    """A mesh on a free port with its state in `folder`, and a client of it."""
    options = MeshOptions(
        tier=tier,
        data_dir=folder,
        port=0,
        config=config,
        executors=executors,
        task_partitions=task_partitions,
        # What is tested with it is not who may call.
        no_auth=True,
    )
    async with (
        await start(options, _tell) as mesh,
        Channels(Everywhere(mesh.address), caller="user:test") as channels,
    ):
        with identity.use(Identity("default", "user:test")):
            yield Client(mesh, channels)
