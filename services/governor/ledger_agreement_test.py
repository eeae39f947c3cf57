"""Counters and ledger agree to the cent, and a Redis that is lost is built again from it."""

import asyncio
import csv
import io
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from agentmesh.governor.v1 import cost_governor_service_pb2_grpc as pb_grpc
from meshkit import identity, log, redis_store
from meshkit.bus import Bus
from meshkit.errors import AlreadySettled
from meshkit.ids import RandomIds
from meshkit.service import Resources
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from meshtest.redis_server import RedisServer
from meshtest.serving import serving
from services.governor.main import build
from services.governor.settings import GovernorSettings

pytest_plugins = ["meshtest.fixtures", "services.governor.fixture_ledger"]

_ACME = "tenants/acme"
_CALLS = 48
_SECONDS = 60.0


async def _governor(
    stack: AsyncExitStack,
    nats_url: str,
    redis: RedisServer,
    clock: FakeClock,
    folder: Path,
    address: str,
) -> Any:
    """A stub of a governor with everything that runs beside it."""
    resources = Resources(
        stack=stack,
        bus=await stack.enter_async_context(await Bus.connect(nats_url, name="governor")),
        redis=await stack.enter_async_context(redis_store.connect(redis.url)),
        channels=cast(Any, None),
        clock=clock,
        ids=RandomIds(),
        log=log.get("governor", stream=io.StringIO()),
        data_dir=folder,
    )
    service = await build(resources, GovernorSettings(ledger_database=address))

    async def run(job: Any) -> None:
        await job()

    background = [asyncio.create_task(run(job)) for job in service.background]

    async def stop() -> None:
        for each in background:
            each.cancel()
        await asyncio.gather(*background, return_exceptions=True)

    stack.push_async_callback(stop)
    channels = await stack.enter_async_context(serving(service.registrations))
    return pb_grpc.CostGovernorServiceStub(channels.get("governor"))


@pytest.fixture
async def stubs(
    nats_url: str,
    redis_server: RedisServer,
    clock: FakeClock,
    ledger_folder: Path,
    address: str,
) -> AsyncIterator[list[Any]]:
    """Two governors that share a ledger: a file, or a server."""
    async with AsyncExitStack() as stack:
        yield [
            await _governor(stack, nats_url, redis_server, clock, ledger_folder, address)
            for _ in range(2)
        ]


def _settlement(number: int) -> pb.SettleRequest:
    request = pb.SettleRequest(
        parent=_ACME,
        key=f"t{number // 3}/{number}/1",
        model="claude-sonnet-4-5",
        task=f"t{number // 3}",
        task_type="chat" if number % 2 else "code",
        agent="helper",
    )
    request.usage.input_tokens = 1_000 + number
    request.usage.output_tokens = number * number % 977
    request.usage.model_calls = 1
    return request


async def _counted(stub: Any) -> tuple[int, int]:
    spend = await stub.GetSpend(pb.GetSpendRequest(parent=_ACME), timeout=_SECONDS)
    assert spend.day.usage.input_tokens == spend.month.usage.input_tokens
    return spend.day.spent_micros, spend.month.spent_micros


async def _in_ledger(stub: Any, *group_by: Any) -> int:
    request = pb.QuerySpendRequest(parent=_ACME, group_by=group_by)
    # What is settled now has ended now.
    request.end_time.GetCurrentTime()
    request.end_time.seconds += 400 * 86_400
    page = await stub.QuerySpend(request, timeout=_SECONDS)
    return sum(row.usage.cost_micros for row in page.rows)


async def _in_export(stub: Any) -> int:
    request = pb.ExportSpendRequest(parent=_ACME)
    request.end_time.GetCurrentTime()
    request.end_time.seconds += 400 * 86_400
    parts = [each.data async for each in stub.ExportSpend(request, timeout=_SECONDS)]
    rows = csv.DictReader(io.StringIO(b"".join(parts).decode(), newline=""))
    return sum(int(row["cost_micros"]) for row in rows)


async def _lose_everything(server: RedisServer) -> None:
    async with redis_store.connect(server.url) as connected:
        redis: Any = connected
        await redis.flushall()


async def test_counters_and_ledger_agree_and_a_lost_redis_is_built_again(
    stubs: list[Any], redis_server: RedisServer
) -> None:
    """Whatever is repeated, wherever, before and after everything in Redis is gone."""
    seed = random.randrange(10_000)
    print("seed", seed)
    chance = random.Random(seed)
    settlements = [_settlement(each) for each in range(_CALLS)]
    repeated = settlements + chance.sample(settlements, _CALLS // 2)
    chance.shuffle(repeated)
    with identity.use(identity.Identity("acme", "service:test")):
        costs: dict[str, int] = {}

        async def settle(request: pb.SettleRequest) -> None:
            answer = await chance.choice(stubs).Settle(request, timeout=_SECONDS)
            costs[request.key] = answer.cost_micros

        await asyncio.gather(*map(settle, repeated))
        total = sum(costs.values())
        assert total > 0
        assert await _counted(stubs[0]) == (total, total)

        # GetSpend waits for the ledger only where it opens a counter.
        async def has_all() -> bool:
            return await _in_ledger(stubs[1]) == total

        await eventually(has_all, timeout_seconds=_SECONDS)
        for group_by in ([pb.SPEND_DIMENSION_TASK_TYPE], [pb.SPEND_DIMENSION_HOUR]):
            assert await _in_ledger(stubs[0], *group_by) == total
        assert await _in_export(stubs[0]) == total

        await _lose_everything(redis_server)
        assert await _counted(stubs[1]) == (total, total)
        # Nobody knows any more that these were settled, but the ledger.
        await asyncio.gather(*map(settle, chance.sample(settlements, 12)))
        assert await _counted(stubs[0]) == (total, total)
        await _lose_everything(redis_server)
        # A call is settled before anybody asks for the counters that it falls under.
        late = _settlement(_CALLS)
        await settle(late)
        total += costs[late.key]
        assert await _counted(stubs[1]) == (total, total)
        other = _settlement(0)
        other.usage.output_tokens += 1
        with suppress(AlreadySettled):
            await stubs[0].Settle(other, timeout=_SECONDS)
        assert await _counted(stubs[1]) == (total, total)
        assert await _in_ledger(stubs[0]) == total
