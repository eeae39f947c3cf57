"""When streams to callers from outside end, over a real connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from meshkit.constants import CALLER_KEY, EXPIRES_KEY, TENANT_KEY
from meshkit.errors import DependencyUnavailable, from_rpc_error
from meshkit.open_streams import OpenStreams
from meshtest import echo
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from meshtest.serving import serving

_REVOKED_AT = datetime(2026, 1, 1, 0, 0, 7, tzinfo=UTC)


class _Keys:
    """Whose revocations a test says."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.fails = False

    async def when(self, tenant: str, key_id: str) -> datetime | None:
        self.asked.append((tenant, key_id))
        if self.fails:
            raise DependencyUnavailable("Not now.")
        return _REVOKED_AT if key_id in self.revoked else None


class _Streams(echo.EchoServicer):
    """Answers at once, and then when it is told to; or without any pause."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.open = 0

    async def Repeat(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        self.open += 1
        try:
            yield StringValue(value="first")
            while request.value == "without a pause":
                yield StringValue(value="next")
            await self.go_on.wait()
            yield StringValue(value="last")
        finally:
            self.open -= 1


class _World:
    """A server of these streams, by a clock that the test moves."""

    def __init__(self, channel: grpc.aio.Channel, servicer: _Streams) -> None:
        self.servicer = servicer
        self._stub: Any = echo.EchoStub(channel)

    async def begin(self, caller: str, text: str = "", **metadata: str) -> Any:
        """A stream that has begun."""
        sent = {TENANT_KEY: "acme", CALLER_KEY: caller, **metadata}
        call = self._stub.Repeat(StringValue(value=text), timeout=60, metadata=list(sent.items()))
        assert (await call.read()).value == "first"
        return call


@pytest.fixture
def clock() -> FakeClock:
    """Moved by hand."""
    return FakeClock()


@pytest.fixture
def keys() -> _Keys:
    """All in force."""
    return _Keys()


@pytest.fixture
async def world(keys: _Keys, clock: FakeClock) -> AsyncIterator[_World]:
    """Everything."""
    servicer = _Streams()
    streams = OpenStreams(keys.when, clock)
    following = asyncio.create_task(streams.follow_keys())
    async with (
        serving([echo.registration(servicer)], streams=streams) as channels,
        # Past the channels of the mesh, which say for themselves who calls.
        grpc.aio.insecure_channel(channels.address("echo")) as channel,
    ):
        yield _World(channel, servicer)
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following


async def _last(call: Any) -> str:
    """What comes before the end."""
    value = ""
    while (answer := await call.read()) is not grpc.aio.EOF:
        value = answer.value
    return value


async def _refusal(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _last(call)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    error = from_rpc_error(caught.value)
    return error.metadata["credential"], error.message


async def test_a_stream_ends_with_its_key(world: _World, keys: _Keys, clock: FakeClock) -> None:
    """Two seconds after a revocation its streams are told so; those of other callers go on."""
    ended = [await world.begin("key:one"), await world.begin("key:one", "without a pause")]
    others = [await world.begin(each) for each in ("key:two", "user:one", "service:one")]
    await eventually(lambda: clock.sleeping)
    keys.revoked.add("one")
    await clock.advance(2.0)
    said = "The API key was revoked at 2026-01-01 00:00:07 UTC: go on with another one."
    assert [await _refusal(each) for each in ended] == [("revoked", said)] * 2
    await eventually(lambda: world.servicer.open == len(others))
    world.servicer.go_on.set()
    for each in others:
        assert await _last(each) == "last"


async def test_streams_go_on_while_nobody_can_tell(
    world: _World, keys: _Keys, clock: FakeClock
) -> None:
    """A store of keys that is away ends no stream; what was revoked meanwhile ends afterwards."""
    call = await world.begin("key:one")
    await eventually(lambda: clock.sleeping)
    keys.revoked.add("one")
    keys.fails = True
    await clock.advance(2.0)
    await eventually(lambda: clock.sleeping)
    assert world.servicer.open == 1
    keys.fails = False
    await clock.advance(2.0)
    assert (await _refusal(call))[0] == "revoked"


async def test_nothing_is_asked_where_no_key_streams(
    world: _World, keys: _Keys, clock: FakeClock
) -> None:
    """Keys are looked at, each once for all of its streams, while there are streams by them."""
    first, second = [await world.begin("key:one") for _ in range(2)]
    await world.begin("user:ann")
    await eventually(lambda: clock.sleeping)
    keys.asked.clear()
    await clock.advance(2.0)
    await eventually(lambda: clock.sleeping)
    assert keys.asked == [("acme", "one")]
    first.cancel()
    second.cancel()
    await eventually(lambda: world.servicer.open == 1)
    keys.asked.clear()
    await clock.advance(10.0)
    assert keys.asked == []


async def test_a_stream_ends_with_its_token(world: _World, clock: FakeClock) -> None:
    """What was good until a moment ago ends, ten seconds late, for clocks differ."""
    now = clock.now().timestamp()
    lasting = await world.begin("user:ann", **{EXPIRES_KEY: str(int(now) + 600)})
    for text in ("", "without a pause"):
        call = await world.begin("user:ann", text, **{EXPIRES_KEY: str(int(now) - 9)})
        said = "The credential of this call expired at 2025-12-31 23:59:51 UTC: go on with another"
        assert await _refusal(call) == ("expired", f"{said} one.")
    world.servicer.go_on.set()
    assert await _last(lasting) == "last"


async def test_an_end_that_is_not_told_in_full_ends_nothing(world: _World) -> None:
    """Some issuers say when to a fraction of a second; of such a number six digits come here."""
    lasting = await world.begin("user:ann", **{EXPIRES_KEY: "1.76378e+09"})
    world.servicer.go_on.set()
    assert await _last(lasting) == "last"


async def test_an_end_that_is_no_time_is_refused(world: _World) -> None:
    """The gateway alone says when a credential ends, and says it as a number."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.begin("user:ann", **{EXPIRES_KEY: "soon"})
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(from_rpc_error(caught.value)) == f"{EXPIRES_KEY}: must be seconds since the epoch"
