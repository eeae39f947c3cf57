"""How many requests of a tenant pass the gateway, and what the others hear."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest_asyncio

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
from tests.gateway.running_gateway import Front, Gateway, front, gateway

pytest_plugins = ["meshtest.fixtures"]

_TASK = "tenants/default/tasks/t1"
_GET = "/agentmesh.coordinator.v1.CoordinatorService/GetTask"
_LOCAL_STATISTICS = "tenants.http_local_rate_limit."
_SHARED_STATISTICS = "cluster.coordinator.ratelimit."
# Tiers that allow so many requests a second are counted over all gateways.
_SHARED_UP_TO = 100
_MESSAGE = "The tenant sends more requests than its tier allows. Try again in 1 s."


@dataclass
class SetPolicy:
    """The policy in force, as a test sets it."""

    current: Policy
    listeners: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    def on_change(self, listener: Callable[[], None]) -> None:
        self.listeners.append(listener)

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

        await eventually(taken)


def _filters(policy: Policy) -> dict[str, Any]:
    return {
        LOCAL: local_limits(policy, "default"),
        SHARED: shared_limits(policy, "default", up_to_per_second=_SHARED_UP_TO),
    }


def _version(file: Path, wanted: Any) -> str | None:
    """The version of a file; None while it has not what is wanted."""
    content = json.loads(file.read_text())
    return content["version_info"] if content["resources"][0]["typed_config"] == wanted else None


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest_asyncio.fixture
async def limited(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Limited]:
    """A gateway under the built-in policy."""
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
        running = await stack.enter_async_context(front(tmp_path, served))
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(running.gateway.address)
        )
        made = Limited(running, policy, redis_server, channel, stack)
        await made.follows(running.gateway)
        yield made


async def send(channel: grpc.aio.Channel, tenant: str | None, count: int) -> list[MeshError | None]:
    """So many reads, one after the other, and what came of each."""
    stub: Any = coordinator_service_pb2_grpc.CoordinatorServiceStub(channel)
    request = coordinator_service_pb2.GetTaskRequest(name=_TASK)
    outcomes: list[MeshError | None] = []
    for _ in range(count):
        try:
            await stub.GetTask(
                request, timeout=5, metadata=((TENANT_KEY, tenant),) if tenant else ()
            )
            outcomes.append(None)
        except grpc.aio.AioRpcError as error:
            outcomes.append(from_rpc_error(error))
    return outcomes


def _passed(outcomes: Sequence[MeshError | None]) -> int:
    return sum(each is None for each in outcomes)


async def test_the_built_in_policy_refuses_nobody_who_is_not_limited(limited: Limited) -> None:
    """A thousand calls at once pass, for the default tenant and for one that nobody knows."""
    stub: Any = coordinator_service_pb2_grpc.CoordinatorServiceStub(limited.channel)
    request = coordinator_service_pb2.GetTaskRequest(name=_TASK)
    metadata = [(), ((TENANT_KEY, "acme"),)]
    await asyncio.gather(
        *(stub.GetTask(request, timeout=20, metadata=metadata[n % 2]) for n in range(1000))
    )
    statistics = await limited.front.gateway.statistics(_LOCAL_STATISTICS)
    assert (statistics["ok"], statistics["rate_limited"]) == (1000, 0)
    # And nobody was asked about them.
    assert await limited.front.gateway.statistics(_SHARED_STATISTICS) == {}


async def test_a_burst_passes_and_what_is_more_is_refused(limited: Limited) -> None:
    """The refusal is an error of the mesh, which says when to come back."""
    limited.policy.tier("enterprise", per_second=200, burst=8)
    limited.policy.tenant("loud", "enterprise")
    await limited.in_force(limited.front.gateway)
    outcomes = await asyncio.gather(*(limited.send("loud", 1) for _ in range(100)))
    refused = [each for (each,) in outcomes if each]
    assert 8 <= 100 - len(refused) < 100
    assert {
        (each.code, each.reason, each.message, each.retry_after_seconds, each.metadata["limit"])
        for each in refused
    } == {
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "RATE_LIMITED",
            _MESSAGE,
            1.0,
            "requests_per_second",
        )
    }
    statistics = await limited.front.gateway.statistics(_LOCAL_STATISTICS)
    assert statistics["rate_limited"] == len(refused)
    # Refused before any service heard of it.
    assert limited.front.coordinator.calls == {"GetTask": 100 - len(refused)}


async def test_who_comes_back_when_told_may_go_on(limited: Limited) -> None:
    """Room comes back at the tier's rate, by itself."""
    limited.policy.tier("standard", per_second=2, burst=3)
    await limited.in_force(limited.front.gateway)
    outcomes = await limited.send("acme", 20)
    assert outcomes[-1] is not None
    refused = time.monotonic()

    async def passes() -> bool:
        return await limited.send("acme", 1) == [None]

    await eventually(passes)
    assert time.monotonic() - refused < 1.0 + 1.0


async def test_tenants_do_not_take_from_each_other(limited: Limited) -> None:
    """Each has a bucket of its own, whether the policy names it or not; so has the default one."""
    limited.policy.tier("standard", per_second=1, burst=5)
    limited.policy.tenant("named", "standard")
    await limited.in_force(limited.front.gateway)
    assert _passed(await limited.send("loud", 40)) < 40
    for quiet in ("quiet", "named", "default"):
        assert await limited.send(quiet, 5) == [None] * 5
    # Who names no tenant is the default one, whose bucket is empty by now.
    assert await limited.send(None, 1) != [None]


async def test_tiers_differ(limited: Limited) -> None:
    """One tenant is bound by its tier, and another by none."""
    limited.policy.tier("free", per_second=1, burst=2)
    limited.policy.tier("enterprise", per_second=0)
    limited.policy.tenant("small", "free")
    limited.policy.tenant("large", "enterprise")
    await limited.in_force(limited.front.gateway)
    assert _passed(await limited.send("small", 30)) < 30
    assert _passed(await limited.send("large", 200)) == 200


async def test_a_change_of_the_policy_is_in_force_at_once(limited: Limited) -> None:
    """The gateway goes on running, and so do its connections."""
    limited.policy.tier("free", per_second=1, burst=2)
    limited.policy.tenant("acme", "free")
    await limited.in_force(limited.front.gateway)
    assert _passed(await limited.send("acme", 30)) < 30
    limited.policy.tenant("acme", "enterprise")
    await limited.in_force(limited.front.gateway)
    assert _passed(await limited.send("acme", 30)) == 30
    limited.policy.tenant("acme", "free")
    await limited.in_force(limited.front.gateway)
    assert _passed(await limited.send("acme", 30)) < 30


async def test_json_is_told_in_json(limited: Limited) -> None:
    """429, when to come back, and the error with its details."""
    limited.policy.tier("standard", per_second=1, burst=1)
    await limited.in_force(limited.front.gateway)

    async def refused() -> Any:
        answer = await limited.front.gateway.http(
            "GET", "/v1/tenants/acme/tasks/t1", headers={TENANT_KEY: "acme"}
        )
        return answer if answer.status != 200 else None

    answer = await eventually(refused)
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {
        "code": 8,
        "message": _MESSAGE,
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "RATE_LIMITED",
                "domain": "agentmesh.dev",
                "metadata": {"limit": "requests_per_second"},
            },
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"},
        ],
    }
    assert "grpc-status-details-bin" not in answer.headers


async def test_a_browser_is_told_in_grpc_web(limited: Limited) -> None:
    """As a call without an answer, with its status in a frame; a preflight does not count."""
    limited.policy.tier("standard", per_second=1, burst=1)
    await limited.in_force(limited.front.gateway)
    headers = {
        "content-type": "application/grpc-web+proto",
        "x-grpc-web": "1",
        "origin": "http://localhost:5173",
        TENANT_KEY: "acme",
    }

    async def refused() -> Any:
        answer = await limited.front.gateway.http("POST", _GET, b"\0\0\0\0\0", headers)
        return answer if answer.body[0] == 0x80 else None

    answer = await eventually(refused)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/grpc-web+proto"
    assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"
    size = int.from_bytes(answer.body[1:5], "big")
    assert len(answer.body) == 5 + size
    trailers = dict(line.split(":", 1) for line in answer.body[5:].decode().splitlines())
    assert (trailers["grpc-status"], trailers["grpc-message"]) == ("8", _MESSAGE)
    assert "grpc-status-details-bin" in trailers
    for _ in range(20):
        asked = await limited.front.gateway.http(
            "OPTIONS",
            _GET,
            headers={"origin": headers["origin"], "access-control-request-method": "POST"},
        )
        assert asked.status == 200


async def test_the_access_log_has_refusals(limited: Limited) -> None:
    """With the tenant, and the flag that says why."""
    limited.policy.tier("standard", per_second=1, burst=1)
    await limited.in_force(limited.front.gateway)
    assert _passed(await limited.send("acme", 10)) < 10

    async def lines() -> list[Any]:
        return [each for each in limited.front.gateway.access() if each["flags"] == "RL"]

    found, *_ = await eventually(lines)
    assert (found["tenant"], found["grpc_status"]) == ("acme", "RESOURCE_EXHAUSTED")
    assert found["upstream_address"] is None


async def test_gateways_share_the_limit_of_a_small_tier(limited: Limited, tmp_path: Path) -> None:
    """A tenant gets no more by going to two of them."""
    other = await limited.stack.enter_async_context(
        gateway(tmp_path / "other", [limited.front.port])
    )
    channel = await limited.stack.enter_async_context(grpc.aio.insecure_channel(other.address))
    await limited.follows(other)
    limited.policy.tier("free", per_second=1, burst=20)
    limited.policy.tenant("acme", "free")
    for each in (limited.front.gateway, other):
        await limited.in_force(each)
    begun = time.monotonic()
    here, there = await asyncio.gather(limited.send("acme", 18), send(channel, "acme", 18))
    seconds = time.monotonic() - begun
    counted = [await each.statistics(_SHARED_STATISTICS) for each in (limited.front.gateway, other)]
    # On a busy machine an answer may come too late, and the request passes.
    unanswered = sum(each.get("failure_mode_allowed", 0) for each in counted)
    # Neither gateway saw more than it allows by itself.
    assert 20 <= _passed(here) + _passed(there) <= 20 + seconds + 1 + unanswered
    refused = [each for each in (*here, *there) if each]
    assert {(each.reason, each.message) for each in refused} == {("RATE_LIMITED", _MESSAGE)}
    assert sum(each.get("over_limit", 0) for each in counted) == len(refused)
    # Others go their way meanwhile.
    assert _passed(await send(channel, "quiet", 20)) == 20


async def test_who_cannot_be_asked_holds_nobody_up(limited: Limited) -> None:
    """Without Redis calls go on, within what the gateway allows by itself."""
    limited.policy.tier("free", per_second=1, burst=20)
    limited.policy.tenant("acme", "free")
    await limited.in_force(limited.front.gateway)
    await asyncio.to_thread(limited.redis.kill)
    outcomes = await limited.send("acme", 40)
    assert 20 <= _passed(outcomes) < 40
    statistics = await limited.front.gateway.statistics(_SHARED_STATISTICS)
    assert statistics["failure_mode_allowed"] == _passed(outcomes)


async def test_a_gateway_that_is_started_again_goes_by_what_it_knew(
    limited: Limited, tmp_path: Path
) -> None:
    """The files of limits outlive it, so it need not wait for anybody."""
    limited.policy.tier("standard", per_second=1, burst=4)
    await limited.in_force(limited.front.gateway)
    folder = tmp_path / "again"
    copied = folder / "mesh" / limited.front.gateway.limits.name
    copied.mkdir(parents=True)
    for file in limited.front.gateway.limits.glob("*.json"):
        (copied / file.name).write_bytes(file.read_bytes())
    async with (
        gateway(folder, [limited.front.port]) as again,
        grpc.aio.insecure_channel(again.address) as channel,
    ):
        assert _passed(await send(channel, "acme", 20)) < 20


async def test_a_file_that_is_no_filter_changes_nothing(limited: Limited) -> None:
    """The limits that were in force stay so."""
    gateway_ = limited.front.gateway
    limited.policy.tier("standard", per_second=1, burst=4)
    await limited.in_force(gateway_)
    prefix = f"extension_config_discovery.http_filter.{LOCAL}."
    before = (await gateway_.statistics(prefix)).get("update_failure", 0)
    broken = gateway_.limits / "broken"
    broken.write_text('{"resources": [{"half": ')
    broken.replace(gateway_.limits / f"{LOCAL}.json")

    async def read() -> bool:
        return (await gateway_.statistics(prefix))["update_failure"] > before

    await eventually(read)
    assert _passed(await limited.send("acme", 20)) < 20
