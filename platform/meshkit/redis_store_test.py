"""Tests of the Redis connection against a real server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from meshkit import redis_store
from meshkit.errors import DependencyUnavailable
from meshtest.redis_server import RedisServer

pytest_plugins = ["meshtest.fixtures"]

_ADD = "return redis.call('INCRBY', KEYS[1], ARGV[1])"


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A client of an empty server."""
    client = redis_store.connect(redis_server.url)
    yield client
    await client.aclose()


async def test_a_connection_that_was_not_made_in_time_is_tried_again(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was asked by it. So a process that stood still meanwhile goes on."""
    connect, late = asyncio.open_connection, [TimeoutError(), TimeoutError()]

    async def slow(*arguments: Any, **options: Any) -> Any:
        if late:
            raise late.pop()
        return await connect(*arguments, **options)

    monkeypatch.setattr(asyncio, "open_connection", slow)
    assert await redis_store.Script(redis, _ADD).run(["sum"], [2]) == 2
    assert not late


async def test_a_script_runs_with_keys_and_arguments(redis: Redis) -> None:
    """A script sees its keys and arguments, and returns what it computes."""
    script = redis_store.Script(redis, _ADD)
    assert await script.run(["sum"], [2]) == 2
    assert await script.run(["sum"], [3]) == 5


async def test_a_script_survives_a_restart_of_the_server(
    redis: Redis, redis_server: RedisServer
) -> None:
    """A server that lost its scripts is given them again."""
    script = redis_store.Script(redis, _ADD)
    await script.run(["sum"], [2])
    redis_server.stop()
    redis_server.start()
    assert await script.run(["sum"], [3]) == 5


async def test_a_missing_server_is_unavailable(redis: Redis, redis_server: RedisServer) -> None:
    """Scripts and the health check say that Redis cannot be reached."""
    redis_server.kill()
    with pytest.raises(DependencyUnavailable, match=r"^Failed to reach Redis: ") as caught:
        await redis_store.Script(redis, _ADD).run(["sum"], [2])
    assert caught.value.metadata == {"dependency": "redis"}
    with pytest.raises(DependencyUnavailable):
        await redis_store.RedisDependency(redis).check()


async def test_health_asks_rarely(redis: Redis, redis_server: RedisServer) -> None:
    """After a good answer, Redis is not asked again for a while."""
    dependency = redis_store.RedisDependency(redis)
    await dependency.check()
    redis_server.kill()
    await dependency.check()
