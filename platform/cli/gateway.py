"""The mesh as a client sees it: the stubs of all services behind one gateway."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import grpc

from agentmesh.access.v1.access_service_pb2_grpc import AccessServiceStub
from agentmesh.coordinator.v1.agent_service_pb2_grpc import AgentServiceStub
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from agentmesh.coordinator.v1.queue_service_pb2_grpc import QueueServiceStub
from agentmesh.coordinator.v1.read_model_service_pb2_grpc import ReadModelServiceStub
from agentmesh.coordinator.v1.schedule_service_pb2_grpc import ScheduleServiceStub
from agentmesh.governor.v1.cost_governor_service_pb2_grpc import CostGovernorServiceStub
from agentmesh.memory.v1.memory_service_pb2_grpc import MemoryServiceStub
from agentmesh.reasoning.v1.reasoning_service_pb2_grpc import ReasoningServiceStub
from agentmesh.tool.v1.tool_service_pb2_grpc import ToolServiceStub
from cli.gateway_address import GatewayAddress
from cli.problem import Problem
from meshkit import identity
from meshkit.client import Channels
from meshkit.errors import DeadlineExceeded, DependencyUnavailable

T = TypeVar("T")


class GatewayTls:
    """TLS of a client without a certificate: it says who it is by a key or a token."""

    def __init__(self, authority: bytes | None) -> None:
        """`authority`: certificates as PEM; those that the machine trusts where None."""
        self.credentials: Final = grpc.ssl_channel_credentials(authority)


# How long a plain call may take before the mesh counts as stuck.
CALL_SECONDS: Final = 15.0
# The same of the governor, which answers from memory: who asks it wants to know soon.
GOVERNOR_SECONDS: Final = 4.0
CALLER: Final = "user:cli"
_GATEWAY: Final = "gateway"


class Gateway:
    """The stubs of all services."""

    def __init__(self, channels: Channels, address: str) -> None:
        channel = channels.get(_GATEWAY)
        self.address: Final = address
        self.access: Final = AccessServiceStub(channel)
        self.coordinator: Final = CoordinatorServiceStub(channel)
        self.agents: Final = AgentServiceStub(channel)
        self.queues: Final = QueueServiceStub(channel)
        self.read_model: Final = ReadModelServiceStub(channel)
        self.schedules: Final = ScheduleServiceStub(channel)
        self.reasoning: Final = ReasoningServiceStub(channel)
        self.memory: Final = MemoryServiceStub(channel)
        self.tools: Final = ToolServiceStub(channel)
        self.governor: Final = CostGovernorServiceStub(channel)


@asynccontextmanager
async def connect(address: GatewayAddress | str, *, tenant: str) -> AsyncGenerator[Gateway]:
    """The gateway at an address, or at a `host:port` without credentials, acting for `tenant`.

    Raises Problem where nobody answers at the address, DeadlineExceeded with the
    name of the service that does not, MeshError for what a service answers,
    InvalidField for a malformed tenant.
    """
    who = identity.make(tenant, CALLER)
    to = GatewayAddress(address) if isinstance(address, str) else address
    tls = GatewayTls(to.authority) if to.tls else None
    async with Channels(
        {_GATEWAY: to.place}, caller=CALLER, tls=tls, bearer=to.credential
    ) as channels:
        with identity.use(who):
            try:
                yield Gateway(channels, to.place)
            except DependencyUnavailable as error:
                if error.metadata.get("dependency") != _GATEWAY:
                    raise
                raise _unreachable(to, str(error)) from error
            except DeadlineExceeded as error:
                raise _late(error) from error


def call(address: GatewayAddress | str, tenant: str, ask: Callable[[Gateway], Awaitable[T]]) -> T:
    """Runs `ask` with a connected gateway; for commands that are not asynchronous otherwise."""

    async def run() -> T:
        async with connect(address, tenant=tenant) as gateway:
            return await ask(gateway)

    return asyncio.run(run())


def _late(error: DeadlineExceeded) -> DeadlineExceeded:
    """It is not the gateway that is late, but who is called through it."""
    _, _, method = error.metadata.get("method", "").partition("agentmesh.")
    service = method.partition(".")[0]
    if error.metadata.get("dependency") != _GATEWAY or not service:
        return error
    return DeadlineExceeded(
        error.message.replace(_GATEWAY, f"The {service}", 1),
        metadata={**error.metadata, "dependency": service},
    )


def _unreachable(to: GatewayAddress, cause: str) -> Problem:
    address = to.place
    if "refused" in cause or "Name or service" in cause or "DNS" in cause:
        return Problem(
            f"No mesh answers at {address}.",
            "Start one with `agentmesh up`, or check --port and --gateway.",
        )
    if "CERTIFICATE_VERIFY_FAILED" in cause or "Peer name" in cause:
        return Problem(
            f"The certificate of the gateway at {address} is by nobody who is trusted here, or for"
            " another name.",
            "Name its authority with --ca FILE, and the gateway as its certificate does.",
        )
    if "WRONG_VERSION_NUMBER" in cause:
        return Problem(
            f"What listens at {address} takes no TLS.",
            "Name the port that does, or on this machine leave https:// out.",
        )
    if not to.tls and ("Socket closed" in cause or "Connection reset" in cause):
        return Problem(
            f"What listens at {address} hung up.",
            f"If it takes TLS, call it with --gateway https://{address}; if it is a mesh of this"
            " machine, see `agentmesh status`.",
        )
    if "Failed parsing HTTP/2" in cause:
        return Problem(
            f"What listens at {address} is no gateway of a mesh.",
            "Name another with --port or --gateway.",
        )
    return Problem(
        f"The mesh at {address} cannot serve the call now: {cause.split(': ', 1)[-1]}.",
        "See `agentmesh status` for what is down, and try again.",
    )
