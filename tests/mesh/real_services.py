"""A coordinator and a governor as they are, with stores that they can be cut off from."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentmesh.coordinator.v1 import coordinator_service_pb2 as coordinator_pb
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as governor_pb
from agentmesh.governor.v1.cost_governor_service_pb2_grpc import CostGovernorServiceStub
from meshkit import identity
from meshkit.client import Channels
from meshkit.identity import Identity
from meshtest.hosting import hosting
from meshtest.nats_server import NatsServer
from meshtest.proxy import FaultProxy
from meshtest.redis_server import RedisServer
from services.coordinator import main as coordinator
from services.coordinator.settings import CoordinatorSettings
from services.governor import main as governor
from services.governor.settings import GovernorSettings
from tests.gateway.running_gateway import Gateway, gateway

_CALL_SECONDS: Final = 30.0
_TASK: Final = Task(input=TaskInput(text="What is 2 + 2?"))


@dataclass(frozen=True, slots=True)
class RealServices:
    """Both in this process; the coordinator is called through a gateway."""

    gateway: Gateway
    # Between them and their stores.
    nats: FaultProxy
    redis: FaultProxy
    tasks: CoordinatorServiceStub
    spending: CostGovernorServiceStub

    async def submit(self, request_id: str, *, timeout_seconds: float = _CALL_SECONDS) -> str:
        """The name of the task."""
        request = coordinator_pb.SubmitTaskRequest(
            parent="tenants/default", request_id=request_id, task=_TASK
        )
        answer = await self.tasks.SubmitTask(request, timeout=timeout_seconds)
        return answer.task.name

    async def admit(self, key: str, *, timeout_seconds: float = _CALL_SECONDS) -> bool:
        """Whether a call of a model may be made."""
        request = governor_pb.AdmitRequest(
            parent="tenants/default",
            key=key,
            model="claude-sonnet-4-5",
            input_tokens=10,
            max_output_tokens=10,
        )
        answer = await self.spending.Admit(request, timeout=timeout_seconds)
        return answer.decision == budget_pb2.DECISION_ALLOW


@asynccontextmanager
async def real_services(
    folder: Path, nats_server: NatsServer, redis_server: RedisServer
) -> AsyncGenerator[RealServices]:
    """Both of them serve."""
    async with (
        FaultProxy(nats_server.port) as nats,
        FaultProxy(redis_server.port) as redis,
        hosting(
            [
                lambda resources: coordinator.build(resources, CoordinatorSettings()),
                lambda resources: governor.build(resources, GovernorSettings()),
            ],
            data_dir=folder,
            nats_url=f"nats://127.0.0.1:{nats.port}",
            redis_url=f"redis://127.0.0.1:{redis.port}",
        ) as direct,
    ):
        place = int(direct.address("coordinator").rpartition(":")[2])
        async with (
            gateway(folder, [place]) as front,
            Channels({"gateway": front.address}, caller="user:test") as channels,
        ):
            tasks = CoordinatorServiceStub(channels.get("gateway"))
            spending = CostGovernorServiceStub(direct.get("governor"))
            made = RealServices(front, nats, redis, tasks, spending)
            with identity.use(Identity("default", "user:test")):
                assert await made.submit("before")
                assert await made.admit("before")
                yield made
