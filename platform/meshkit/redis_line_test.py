"""Tests of the shared connection against a real server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from meshkit import redis_store
from meshkit.errors import DependencyUnavailable, ShuttingDown
from meshkit.redis_line import RedisLine
from meshtest.eventually import eventually
from meshtest.redis_server import RedisServer

pytest_plugins = ["meshtest.fixtures"]


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A client of an empty server."""
    client = redis_store.connect(redis_server.url)
    yield client
    await client.aclose()


@pytest.fixture
async def line(redis: Redis) -> AsyncIterator[RedisLine]:
    """A connection to the same server."""
    async with RedisLine(redis) as made:
        yield made


async def test_answers_come_in_the_order_of_the_commands(line: RedisLine) -> None:
    """Texts, numbers, what is missing, lists; each caller gets its own."""
    assert await line.ask(
        [["SET", "a", 1], ["INCRBY", "a", "41"], ["GET", b"a"], ["GET", "b"], ["MGET", "a", "b"]]
    ) == [b"OK", 42, b"42", None, [b"42", None]]
    many = [line.ask([["ECHO", str(number)]]) for number in range(200)]
    assert await asyncio.gather(*many) == [[str(number).encode()] for number in range(200)]
    assert await line.ask([]) == []


async def test_a_refusal_is_raised_and_the_commands_beside_it_are_done(line: RedisLine) -> None:
    """The caller hears of the first; other callers hear nothing of it."""
    refused, well = await asyncio.gather(
        line.ask([["SET", "a", "text"], ["INCR", "a"], ["SET", "b", 1]]),
        line.ask([["ECHO", "x"]]),
        return_exceptions=True,
    )
    assert isinstance(refused, ResponseError)
    assert str(refused) == "ERR value is not an integer or out of range"
    assert well == [b"x"]
    assert await line.ask([["GET", "b"]]) == [b"1"]
    with pytest.raises(NoScriptError):
        await line.ask([["EVALSHA", "0" * 40, 0]])


async def test_who_is_cancelled_takes_nobodys_answer(line: RedisLine) -> None:
    """The answers behind it still reach who asked for them."""
    await line.ask([["PING"]])
    gone = asyncio.ensure_future(line.ask([["ECHO", "gone"]]))
    stays = asyncio.ensure_future(line.ask([["ECHO", "stays"]]))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == [b"stays"]


async def test_a_server_that_was_restarted_is_asked_again(
    line: RedisLine, redis_server: RedisServer
) -> None:
    """The connection is made anew, at the next question."""
    await line.ask([["PING"]])
    redis_server.stop()
    redis_server.start()
    assert await line.ask([["PING"]]) == [b"PONG"]


async def test_a_connection_that_breaks_amid_a_question_is_made_anew(
    line: RedisLine, redis: Redis
) -> None:
    """The question is asked again on another connection."""
    await line.ask([["PING"]])
    waiting = asyncio.ensure_future(line.ask([["BLPOP", "queue", 5]]))

    async def address() -> str:
        clients: list[dict[str, str]] = await cast(Any, redis).client_list()
        return next((each["addr"] for each in clients if each["cmd"] == "blpop"), "")

    await cast(Any, redis).client_kill(await eventually(address))
    await cast(Any, redis).rpush("queue", "x")
    assert await waiting == [[b"queue", b"x"]]


async def test_a_missing_server_is_unavailable(line: RedisLine, redis_server: RedisServer) -> None:
    """The error says that Redis cannot be reached."""
    redis_server.kill()
    with pytest.raises(DependencyUnavailable, match=r"^Failed to reach Redis: ") as caught:
        await line.ask([["PING"]])
    assert caught.value.metadata == {"dependency": "redis"}


async def test_a_line_that_was_closed_stays_closed(redis: Redis) -> None:
    """Who still asks is told that the service ends; no connection is left behind."""
    async with RedisLine(redis) as line:
        await line.ask([["PING"]])
    with pytest.raises(ShuttingDown):
        await line.ask([["PING"]])


async def test_the_password_and_the_database_are_the_clients(
    redis: Redis, redis_server: RedisServer
) -> None:
    """What it asks goes where the client's questions go; a wrong password is told."""
    await cast(Any, redis).config_set("requirepass", "secret")
    where = redis_server.url.removeprefix("redis://")
    async with redis_store.connect(f"redis://:secret@{where}/3") as client:
        async with RedisLine(client) as line:
            assert await line.ask([["SET", "a", "1"]]) == [b"OK"]
        assert await cast(Any, client).get("a") == b"1"
    async with redis_store.connect(f"redis://:wrong@{where}") as client, RedisLine(client) as line:
        with pytest.raises(DependencyUnavailable, match="WRONGPASS"):
            await line.ask([["PING"]])
