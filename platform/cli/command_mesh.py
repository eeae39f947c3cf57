"""Command lines against services that a test plays; only for tests."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from click.testing import CliRunner, Result

from agentmesh.access.v1 import access_service_pb2_grpc
from agentmesh.coordinator.v1 import (
    agent_service_pb2_grpc,
    coordinator_service_pb2_grpc,
    queue_service_pb2_grpc,
    read_model_service_pb2_grpc,
    schedule_service_pb2_grpc,
)
from agentmesh.governor.v1 import cost_governor_service_pb2_grpc
from agentmesh.reasoning.v1 import reasoning_service_pb2_grpc
from agentmesh.tool.v1 import tool_service_pb2_grpc
from cli.app import app
from meshkit.server import Registration
from meshtest.serving import serving

# The package of each service, and what adds it to a server.
_SERVICES: Final[Mapping[str, tuple[str, Callable[..., None]]]] = {
    "AccessService": (
        "access",
        access_service_pb2_grpc.add_AccessServiceServicer_to_server,
    ),
    "AgentService": ("coordinator", agent_service_pb2_grpc.add_AgentServiceServicer_to_server),
    "CoordinatorService": (
        "coordinator",
        coordinator_service_pb2_grpc.add_CoordinatorServiceServicer_to_server,
    ),
    "QueueService": ("coordinator", queue_service_pb2_grpc.add_QueueServiceServicer_to_server),
    "ReadModelService": (
        "coordinator",
        read_model_service_pb2_grpc.add_ReadModelServiceServicer_to_server,
    ),
    "ScheduleService": (
        "coordinator",
        schedule_service_pb2_grpc.add_ScheduleServiceServicer_to_server,
    ),
    "ReasoningService": (
        "reasoning",
        reasoning_service_pb2_grpc.add_ReasoningServiceServicer_to_server,
    ),
    "ToolService": ("tool", tool_service_pb2_grpc.add_ToolServiceServicer_to_server),
    "CostGovernorService": (
        "governor",
        cost_governor_service_pb2_grpc.add_CostGovernorServiceServicer_to_server,
    ),
}


@dataclass(frozen=True, slots=True)
class Commands:
    """Runs command lines against a gateway, one at a time: each takes the process's output."""

    gateway: str
    tenant: str = "default"

    async def run(self, *arguments: str, stdin: str | None = None) -> Result:
        """The end of `agentmesh ARGUMENTS`, without a terminal."""

        def invoke() -> Result:
            return CliRunner().invoke(
                app,
                [*arguments, "--gateway", self.gateway, *self._who()],
                input=stdin,
                prog_name="agentmesh",
            )

        return await asyncio.to_thread(invoke)

    def _who(self) -> list[str]:
        return [] if self.tenant == "default" else ["--tenant", self.tenant]


@asynccontextmanager
async def commands_for(**services: Any) -> AsyncGenerator[Commands]:
    """Serves the given servicers under the names of their services."""
    registrations = [
        Registration(f"agentmesh.{package}.v1.{name}", add, servicer)
        for name, servicer in services.items()
        for package, add in [_SERVICES[name]]
    ]
    async with serving(registrations, caller="user:cli") as channels:
        yield Commands(channels.address("gateway"))
