"""A gateway whose limits follow a policy of the test's."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from agentmesh.coordinator.v1 import coordinator_service_pb2, coordinator_service_pb2_grpc
from envoyproxy.ratelimit.v3 import rls_pb2_grpc
from meshkit import log, redis_store
from meshkit.constants import TENANT_KEY
from meshkit.errors import MeshError, from_rpc_error
from meshkit.redis_line import RedisLine
from meshkit.server import Registration
from meshtest.eventually import eventually
from meshtest.redis_server import RedisServer
from services.governor.gateway_files import GatewayFiles
from services.governor.gateway_limits import LOCAL, SHARED, local_limits, shared_limits
from services.governor.rate_limit_service import RateLimitServicer
from services.governor.request_buckets_redis import RedisRequestBuckets
from tasklog.policy import Policy, built_in, policy_of
from tests.gateway.running_gateway import Front, Gateway, front

# The task that is read.
TASK: Final = "tenants/default/tasks/t1"
# Tiers that allow so many requests a second are counted over all gateways.
SHARED_UP_TO: Final = 1


@dataclass
class SetPolicy:
    """The policy in force, as a test sets it."""

    current: Policy
    listeners: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    def on_change(self, listener: Callable[[], None]) -> None:
        """Has it called after each change."""
        self.listeners.append(listener)

    def reset(self) -> None:
        """Nothing is set."""
        self._set(policy_of(built_in()))

    def tier(self, tier: str, *, per_second: float, burst: int = 0) -> None:
        """Changes how many requests a tier allows."""
        message = built_in()
        message.CopyFrom(self.current.message)
        (found,) = (each for each in message.tenant_tiers if each.id == tier)
        found.requests_per_second, found.request_burst = per_second, burst
        self._set(policy_of(message))

    def tenant(self, tenant: str, tier: str) -> None:
        """Moves a tenant to a tier."""
        message = built_in()
        message.CopyFrom(self.current.message)
        message.tenants[tenant] = tier
        self._set(policy_of(message))

    def _set(self, policy: Policy) -> None:
        self.current = policy
        for listener in self.listeners:
            listener()


@dataclass(frozen=True)
class Limited:
    """A gateway whose limits follow a policy."""

    front: Front
    policy: SetPolicy
    redis: RedisServer
    channel: grpc.aio.Channel
    # For tests that put more into it.
    stack: AsyncExitStack

    async def send(self, tenant: str | None, count: int) -> list[MeshError | None]:
        """So many calls, one after the other, and what came of each."""
        return await send(self.channel, tenant, count)

    async def follows(self, gateway: Gateway) -> None:
        """Has the limits of a gateway follow the policy."""
        files = GatewayFiles(gateway.limits, self.policy, _filters, log.get("test"))
        task = asyncio.create_task(files.keep())
        self.stack.push_async_callback(_ended, task)
        await self.in_force(gateway)

    async def in_force(self, gateway: Gateway) -> None:
        """Returns when the gateway goes by the present policy."""

        async def taken() -> bool:
            running = await gateway.followed()
            return {name: running[name] for name in _filters(self.policy.current)} == {
                name: _version(gateway.limits / f"{name}.json", wanted)
                for name, wanted in _filters(self.policy.current).items()
            }

        await eventually(taken, 60)
        # Its worker goes by what its main thread has at the latest when it has answered once more.
        await gateway.http("GET", "/healthz")


def _filters(policy: Policy) -> dict[str, Any]:
    return {
        LOCAL: local_limits(policy, "default"),
        SHARED: shared_limits(policy, "default", up_to_per_second=SHARED_UP_TO),
    }


def _version(file: Path, wanted: Any) -> str | None:
    """The version of a file; None while it has not what is wanted."""
    content = json.loads(file.read_text())
    return content["version_info"] if content["resources"][0]["typed_config"] == wanted else None


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@asynccontextmanager
async def limited_by_policy(folder: Path, redis_server: RedisServer) -> AsyncGenerator[Limited]:
    """A gateway under the built-in policy, in front of a stand-in."""
    policy = SetPolicy(policy_of(built_in()))
    async with AsyncExitStack() as stack:
        redis = redis_store.connect(redis_server.url)
        stack.push_async_callback(redis.aclose)
        line = await stack.enter_async_context(RedisLine(redis))
        served = Registration(
            "envoy.service.ratelimit.v3.RateLimitService",
            rls_pb2_grpc.add_RateLimitServiceServicer_to_server,
            RateLimitServicer(policy, RedisRequestBuckets(line)),
            guarded=False,
        )
        running = await stack.enter_async_context(front(folder, served))
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(running.gateway.address)
        )
        made = Limited(running, policy, redis_server, channel, stack)
        await made.follows(running.gateway)
        yield made


async def send(channel: grpc.aio.Channel, tenant: str | None, count: int) -> list[MeshError | None]:
    """So many reads, one after the other, and what came of each."""
    stub: Any = coordinator_service_pb2_grpc.CoordinatorServiceStub(channel)
    request = coordinator_service_pb2.GetTaskRequest(name=TASK)
    outcomes: list[MeshError | None] = []
    for _ in range(count):
        try:
            await stub.GetTask(
                request, timeout=60, metadata=((TENANT_KEY, tenant),) if tenant else ()
            )
            outcomes.append(None)
        except grpc.aio.AioRpcError as error:
            outcomes.append(from_rpc_error(error))
    return outcomes
