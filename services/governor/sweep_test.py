"""Nothing remains reserved after its time, also while nobody calls."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from meshkit import redis_store
from meshkit.errors import DependencyUnavailable
from meshkit.redis_line import RedisLine
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from meshtest.redis_server import RedisServer
from services.governor.calls import Allowed, PlannedCall
from services.governor.counters_redis import PREFIX
from services.governor.governor_parts import Defaults, GovernorParts, governor_parts
from services.governor.scripted_ledger import ScriptedLedger
from services.governor.sweep import Sweep

pytest_plugins = ["meshtest.fixtures"]


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with redis_store.connect(redis_server.url) as connection:
        yield connection


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime(2026, 3, 30, 12, tzinfo=UTC))


async def _reserved(store: Redis) -> list[int]:
    client = cast(Any, store)
    keys = [key async for key in client.scan_iter(f"{PREFIX}tenant:*")]
    return sorted([int(await client.hget(key, "reserved")) for key in keys])


async def test_expired_reservations_are_given_back_without_a_call(
    store: Redis, clock: FakeClock
) -> None:
    """Those whose time is not over stay."""
    async with RedisLine(store) as line:
        parts: GovernorParts = governor_parts(line, clock, ScriptedLedger(), Defaults(1000, 1000))
        sweep = asyncio.create_task(Sweep(parts.counters, clock).run())
        for key, tokens in (("a", 700), ("b", 200)):
            (verdict,) = await parts.admission.admit([PlannedCall("acme", key, "unit", tokens, 0)])
            assert isinstance(verdict, Allowed)
            await clock.advance(290)
        assert await _reserved(store) == [900, 900]
        await clock.advance(30)

        async def swept() -> bool:
            # A sweep that was on until now has just begun to wait for the next one.
            await clock.advance(5)
            assert await _reserved(store) == [200, 200]
            return True

        await eventually(swept, 5)
        sweep.cancel()
        with suppress(asyncio.CancelledError):
            await sweep


async def test_a_sweep_that_fails_is_made_again(clock: FakeClock) -> None:
    """Redis was away; nobody is told, since nobody waits."""

    class _Away:
        turns = 0

        async def sweep(self) -> None:
            self.turns += 1
            raise DependencyUnavailable("Redis is away.")

    away = _Away()
    sweep = asyncio.create_task(Sweep(away, clock).run())
    # Until it begins to wait.
    await clock.advance(0)
    for turn in range(3):
        await clock.advance(10)
        assert away.turns == turn + 1
    sweep.cancel()
    with suppress(asyncio.CancelledError):
        await sweep
