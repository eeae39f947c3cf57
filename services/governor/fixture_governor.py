"""Test-only: what the governor's rules are tried on, a real Redis and a ledger that is told."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from meshkit import redis_store
from meshkit.redis_line import RedisLine
from meshtest.redis_server import RedisServer
from services.governor.scripted_ledger import ScriptedLedger


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis for all tests of a file."""
    running = RedisServer(tmp_path_factory.mktemp("redis"))
    running.start()
    yield running
    running.kill()


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[Redis]:
    """A connection to it, with nothing stored."""
    async with redis_store.connect(server.url) as connection:
        await cast(Any, connection).flushall()
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
