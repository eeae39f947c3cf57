"""Test-only: a memory service on a real Redis, with vectors of hashed words."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from meshkit import redis_store
from meshtest.redis_server import RedisServer
from services.memory.hashing_reasoning import HashingReasoning, hashing_reasoning
from services.memory.hosted_memory import Client, hosted_memory

pytest_plugins = ["meshtest.fixtures"]


@pytest.fixture
def reasoning() -> HashingReasoning:
    """What memory asks for vectors."""
    return hashing_reasoning()


@pytest.fixture
async def redis_url(shared_redis: RedisServer) -> str:
    """An empty Redis."""
    async with redis_store.connect(shared_redis.url) as connection:
        await cast(Any, connection).flushall()
    return shared_redis.url


@pytest.fixture
async def memory(
    nats_url: str, redis_url: str, tmp_path: Path, reasoning: HashingReasoning
) -> AsyncIterator[Client]:
    """A client of tenant acme's."""
    async with hosted_memory(
        nats_url, redis_url, tmp_path / "data", reasoning.registration()
    ) as client:
        yield client
