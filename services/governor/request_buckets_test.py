"""Buckets of requests on a real Redis."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from meshkit import redis_store
from meshkit.errors import DependencyUnavailable
from meshkit.redis_line import RedisLine
from meshtest.redis_server import RedisServer
from services.governor.request_buckets_redis import RedisRequestBuckets

pytest_plugins = ["meshtest.fixtures"]


@pytest.fixture
async def line(redis_server: RedisServer) -> AsyncIterator[RedisLine]:
    """A connection to an empty server."""
    redis = redis_store.connect(redis_server.url)
    async with RedisLine(redis) as made:
        yield made
    await redis.aclose()


async def test_many_at_once_get_a_burst_and_no_more(line: RedisLine) -> None:
    """Whoever asks, and over however many connections: one bucket for each tenant."""
    first, second = RedisRequestBuckets(line), RedisRequestBuckets(line)
    begun = time.monotonic()
    taken = await asyncio.gather(
        *(each.take("acme", per_second=1, burst=50) for each in (first, second) * 100)
    )
    seconds = time.monotonic() - begun
    assert 50 <= sum(taken) <= 50 + seconds + 1
    assert await first.take("umbrella", per_second=1, burst=50)


async def test_tokens_come_back_at_the_rate(line: RedisLine) -> None:
    """And not sooner, by the clock of Redis: one in a thousand seconds, here."""
    buckets = RedisRequestBuckets(line)

    async def taken(times: int) -> list[bool]:
        return [await buckets.take("acme", per_second=0.001, burst=10) for _ in range(times)]

    async def passed(seconds: int) -> None:
        await line.ask([("HINCRBY", "requests:{acme}", "at", -1_000 * seconds)])

    assert await taken(11) == [True] * 10 + [False]
    await passed(2_900)
    assert await taken(3) == [True, True, False]
    await passed(100)
    assert await taken(2) == [True, False]


async def test_a_changed_tier_counts_at_once(line: RedisLine) -> None:
    """A smaller bucket is cut down, a larger one fills from where it was."""
    buckets = RedisRequestBuckets(line)
    assert await buckets.take("acme", per_second=0.001, burst=1_000)
    taken = [await buckets.take("acme", per_second=0.001, burst=3) for _ in range(5)]
    assert taken == [True] * 3 + [False] * 2
    assert not await buckets.take("acme", per_second=0.001, burst=1_000)


async def test_a_full_bucket_is_forgotten(line: RedisLine) -> None:
    """Tenants that come once leave nothing behind."""
    buckets = RedisRequestBuckets(line)
    assert await buckets.take("acme", per_second=1, burst=100)
    (left_ms,) = await line.ask([("PTTL", "requests:{acme}")])
    assert 0 < left_ms <= 101_000


async def test_without_redis_nobody_knows(line: RedisLine, redis_server: RedisServer) -> None:
    """Which is told, for the gateway to decide."""
    buckets = RedisRequestBuckets(line)
    await buckets.take("acme", per_second=1, burst=1)
    await asyncio.to_thread(redis_server.kill)
    with pytest.raises(DependencyUnavailable):
        await buckets.take("acme", per_second=1, burst=1)


async def test_a_redis_that_forgot_the_script_learns_it_again(
    line: RedisLine, redis_server: RedisServer
) -> None:
    """It was restarted, say."""
    buckets = RedisRequestBuckets(line)
    assert await buckets.take("acme", per_second=1, burst=5)
    await line.ask([("SCRIPT", "FLUSH")])
    assert await buckets.take("acme", per_second=1, burst=5)
