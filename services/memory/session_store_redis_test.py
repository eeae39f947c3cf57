"""Sessions, on a real Redis."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from meshkit import redis_store
from meshkit.errors import DependencyUnavailable, RequestIdReused
from meshtest.redis_server import RedisServer
from services.memory.session import Append, Context, Sessions
from services.memory.session_store_redis import RedisSessionStore

pytest_plugins = ["meshtest.fixtures"]


@pytest.fixture
async def sessions(redis_server: RedisServer) -> AsyncIterator[Sessions]:
    redis = redis_store.connect(redis_server.url)
    yield Sessions(RedisSessionStore(redis, max_messages=50))
    await redis.aclose()


def _append(*messages: bytes, request_id: str = "", tenant: str = "acme") -> Append:
    return Append(tenant, "chat", messages, request_id)


async def test_messages_come_back_in_order(sessions: Sessions) -> None:
    """Oldest first, over several appends, byte for byte."""
    assert await sessions.append(_append(b"one\0\xff", b"two")) == 2
    assert await sessions.append(_append(b"three")) == 3
    assert await sessions.context("acme", "chat", max_tokens=100) == Context(
        [b"one\0\xff", b"two", b"three"], 0, 5
    )


async def test_an_unknown_session_is_empty(sessions: Sessions) -> None:
    """It exists from its first message on."""
    assert await sessions.context("acme", "none", max_tokens=100) == Context([], 0, 0)


async def test_a_repeated_request_changes_nothing(sessions: Sessions) -> None:
    """The answer is that of the first time, even after other appends."""
    assert await sessions.append(_append(b"one", request_id="r1")) == 1
    assert await sessions.append(_append(b"two", request_id="r2")) == 2
    assert await sessions.append(_append(b"one", request_id="r1")) == 1
    context = await sessions.context("acme", "chat", max_tokens=100)
    assert context.messages == [b"one", b"two"]


async def test_a_request_id_stands_for_one_request(sessions: Sessions) -> None:
    """With other messages it is refused, and nothing is added."""
    await sessions.append(_append(b"ab", b"c", request_id="r1"))
    with pytest.raises(RequestIdReused) as caught:
        await sessions.append(_append(b"a", b"bc", request_id="r1"))
    assert str(caught.value) == (
        "request_id 'r1' was used for other messages of session 'chat'; "
        "use a new one for each call."
    )
    assert len((await sessions.context("acme", "chat", max_tokens=100)).messages) == 2


async def test_a_request_is_remembered_for_a_day(
    sessions: Sessions, redis_server: RedisServer
) -> None:
    """Not for ever: that would fill Redis."""
    await sessions.append(_append(b"one", request_id="r1"))
    redis: Any = redis_store.connect(redis_server.url)
    (key,) = [each async for each in redis.scan_iter("*/request/*")]
    assert 86_390 <= await redis.ttl(key) <= 86_400
    await redis.aclose()


async def test_the_newest_messages_that_fit_are_answered(sessions: Sessions) -> None:
    """Four bytes to a token, rounded up for each; the first that does not fit ends it."""
    await sessions.append(_append(b"small", b"x" * 400, b"12345678", b"1"))
    assert await sessions.context("acme", "chat", max_tokens=102) == Context(
        [b"12345678", b"1"], 2, 3
    )
    assert await sessions.context("acme", "chat", max_tokens=103) == Context(
        [b"x" * 400, b"12345678", b"1"], 1, 103
    )
    assert await sessions.context("acme", "chat", max_tokens=105) == Context(
        [b"small", b"x" * 400, b"12345678", b"1"], 0, 105
    )


async def test_only_the_newest_messages_are_kept(sessions: Sessions) -> None:
    """A session has a bounded length."""
    for start in range(0, 120, 40):
        await sessions.append(_append(*(b"%d" % n for n in range(start, start + 40))))
    context = await sessions.context("acme", "chat", max_tokens=1_000)
    assert context == Context([b"%d" % n for n in range(70, 120)], 0, 50)


async def test_tenants_have_sessions_of_their_own(sessions: Sessions) -> None:
    """The same session's name and request id in two tenants are two things."""
    assert await sessions.append(_append(b"a", request_id="r")) == 1
    assert await sessions.append(_append(b"b", request_id="r", tenant="umbrella")) == 1
    assert (await sessions.context("umbrella", "chat", max_tokens=9)).messages == [b"b"]


async def test_messages_survive_a_crash_of_redis(
    sessions: Sessions, redis_server: RedisServer
) -> None:
    """Redis keeps a file; the store finds its scripts again."""
    await sessions.append(_append(b"one", request_id="r1"))
    redis_server.restart()
    assert await sessions.append(_append(b"one", request_id="r1")) == 1
    assert await sessions.append(_append(b"two")) == 2


async def test_without_redis_it_says_so(sessions: Sessions, redis_server: RedisServer) -> None:
    """As a dependency that is not there."""
    redis_server.kill()
    with pytest.raises(DependencyUnavailable, match="Failed to reach Redis"):
        await sessions.append(_append(b"one"))
