"""Test-only: what the governor's rules are tried on, a real Redis and a ledger that is told."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from meshkit import redis_store
from meshkit.redis_line import RedisLine
from meshtest.redis_server import RedisServer
from services.governor.scripted_ledger import ScriptedLedger

pytest_plugins = ["meshtest.fixtures"]


@pytest.fixture
async def redis_url(shared_redis: RedisServer) -> str:
    """A real Redis, with nothing stored."""
    async with redis_store.connect(shared_redis.url) as connection:
        await cast(Any, connection).flushall()
    return shared_redis.url


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Redis]:
    """A connection to it."""
    async with redis_store.connect(redis_url) as connection:
        yield connection


@pytest.fixture
async def line(store: Redis) -> AsyncIterator[RedisLine]:
    """What the counters ask on."""
    async with RedisLine(store) as made:
        yield made


@pytest.fixture
def ledger() -> ScriptedLedger:
    """A ledger in which nothing is."""
    return ScriptedLedger()
