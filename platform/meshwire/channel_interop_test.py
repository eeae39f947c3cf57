"""Calls on the event loop arrive at gRPC's own server, and at ours, as gRPC's clients make them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from meshtest.eventually import eventually
from meshwire import kinds
from meshwire.channel import Reach, WireChannel
from meshwire.wire_calls import nothing_is_left

_CODE = grpc.StatusCode
_SIZES = (0, 1, 16_379, 16_380, 65_530, 65_531, 1 << 20, 8 << 20)
_REACH = Reach(most_message_bytes=9 << 20, connect_seconds=30)

pytestmark = pytest.mark.parametrize("of", ["gRPC", "ours"])


@asynccontextmanager
async def _listening(of: str, behaviours: dict[str, Any]) -> AsyncGenerator[int]:
    if of == "ours":
        async with kinds.listening(behaviours) as port:
            yield port
        return
    server: Any = grpc.aio.server(options=kinds.UNBOUNDED)
    handlers = {name: kinds.KINDS[name](each) for name, each in behaviours.items()}
    generic = grpc.method_handlers_generic_handler(kinds.SERVICE, handlers)
    server.add_generic_rpc_handlers((generic,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@asynccontextmanager
async def _serving(of: str, **behaviours: Any) -> AsyncGenerator[Any]:
    async with (
        _listening(of, behaviours) as port,
        WireChannel(f"127.0.0.1:{port}", _REACH) as channel,
    ):
        yield channel


@pytest.mark.parametrize("size", _SIZES)
async def test_messages_of_any_size_travel_by_every_kind_of_call(of: str, size: int) -> None:
    """In both directions, unchanged."""
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    half, rest = content[: size // 2], content[size // 2 :]
    async with _serving(
        of,
        unary_unary=kinds.say,
        unary_stream=kinds.repeat,
        stream_unary=kinds.join,
        stream_stream=kinds.talk,
    ) as channel:
        assert await kinds.method(channel, "unary_unary")(content, timeout=60) == content
        repeated = kinds.method(channel, "unary_stream")(content, timeout=60)
        assert [each async for each in repeated] == [content] * 3
        joined = kinds.method(channel, "stream_unary")(kinds.stream_of(half, rest, b""), timeout=60)
        assert await joined == content
        said = kinds.stream_of(content, b"", half)
        spoken = kinds.method(channel, "stream_stream")(said, timeout=60)
        assert [each async for each in spoken] == [content, b"", half]
        assert await spoken.code() == _CODE.OK


async def test_a_stream_may_have_no_messages(of: str) -> None:
    """In either direction."""
    async with _serving(of, stream_unary=kinds.join, stream_stream=kinds.talk) as channel:
        assert await kinds.method(channel, "stream_unary")(kinds.stream_of(), timeout=60) == b""
        spoken = kinds.method(channel, "stream_stream")(kinds.stream_of(), timeout=60)
        assert [each async for each in spoken] == []


async def test_metadata_arrives_as_it_was_given(of: str) -> None:
    """Text and bytes, several of a name, and in both directions."""
    given = (("key", "a value, with more"), ("many", "1"), ("many", "2"), ("raw-bin", b"\0\xff"))

    async def say(request: bytes, context: Any) -> bytes:
        came = [(key, value) for key, value in context.invocation_metadata()]
        assert [each for each in came if each[0] in ("key", "many", "raw-bin")] == [*given]
        context.set_trailing_metadata(given)
        return request

    async with _serving(of, unary_unary=say) as channel:
        call = kinds.method(channel, "unary_unary")(b"1", timeout=60, metadata=given)
        assert await call == b"1"
        assert [each for each in await call.trailing_metadata() if each in given] == [*given]


@pytest.mark.parametrize("kind", kinds.KINDS)
@pytest.mark.parametrize("code", [each for each in _CODE if each is not _CODE.OK])
async def test_a_status_arrives_as_it_was_given(of: str, code: grpc.StatusCode, kind: str) -> None:
    """With its text in any language, and its metadata, by every kind of call."""
    text, trailing = "It's 100% \n gröber ☃", (("why-bin", b"\1\2"),)

    async def fail(request: Any, context: Any) -> bytes:
        await context.abort(code, text, trailing)
        return b""

    async def fail_later(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        await context.abort(code, text, trailing)

    behaviour = fail_later if kind.endswith("_stream") else fail
    async with _serving(of, **{kind: behaviour}) as channel:
        said = kinds.stream_of(b"1") if kind.startswith("stream_") else b"1"
        call = kinds.method(channel, kind)(said, timeout=60)
        if kind.endswith("_stream"):
            assert await call.read() == b"first"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (call.read() if kind.endswith("_stream") else call)
        error = caught.value
        assert (error.code(), error.details()) == (code, text)
        assert ("why-bin", b"\1\2") in tuple(error.trailing_metadata() or ())
        assert (await call.code(), await call.details()) == (code, text)


async def test_what_nobody_serves_is_unimplemented(of: str) -> None:
    """Be it a method or a service."""
    async with _serving(of, unary_unary=kinds.say) as channel:
        for path in (f"/{kinds.SERVICE}/Other", "/other.v1.Other/unary_unary"):
            call = channel.unary_unary(path)(b"", timeout=60)
            assert await call.code() == _CODE.UNIMPLEMENTED


async def test_a_deadline_is_known_at_both_ends(of: str) -> None:
    """The handler sees how much is left, and is stopped when nothing is."""
    left: list[float] = []
    stopped = asyncio.Event()

    async def say(request: bytes, context: Any) -> bytes:
        left.append(context.time_remaining())
        if request:
            return request
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return b""

    async with _serving(of, unary_unary=say) as channel:
        assert await kinds.method(channel, "unary_unary")(b"1", timeout=600) == b"1"
        assert 500 < left[0] <= 606
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await kinds.method(channel, "unary_unary")(b"", timeout=0.3)
        assert caught.value.code() == _CODE.DEADLINE_EXCEEDED
        # A busy server may have learned of it when it was over.
        await eventually(lambda: stopped.is_set() or len(left) == 1)


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_a_call_that_is_cancelled_stops_its_handler(of: str, kind: str) -> None:
    """Whoever waits for it gets CancelledError, and others go on."""
    running, stopped = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async def say(request: bytes, context: Any) -> bytes:
        await wait()
        return request

    async def tell(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        await wait()

    behaviours = {"unary_unary": say, "unary_stream": tell, "stream_unary": kinds.join}
    async with _serving(of, **behaviours) as channel:
        call = kinds.method(channel, kind)(b"", timeout=60)
        if kind == "unary_stream":
            assert await call.read() == b"1"
        reading = asyncio.ensure_future(call.read() if kind == "unary_stream" else call)
        await running.wait()
        assert call.cancel()
        assert not call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await call.code() == _CODE.CANCELLED
        await eventually(stopped.is_set)
        said = kinds.stream_of(b"on")
        assert await kinds.method(channel, "stream_unary")(said, timeout=60) == b"on"


async def test_an_answer_stream_that_nobody_reads_is_bounded(of: str) -> None:
    """The handler waits for its reader, who gets everything in the end."""
    one, count, sent = bytes(64 << 10), 1000, 0

    async def tell(request: bytes, context: Any) -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(count):
            yield one
            sent += 1

    async with _serving(of, unary_stream=tell, unary_unary=kinds.say) as channel:
        call = kinds.method(channel, "unary_stream")(b"", timeout=120)
        assert await call.read() == one
        await kinds.stands_still(channel, lambda: sent)
        assert sent < count // 4
        for _ in range(count - 1):
            assert await call.read() == one
        assert await call.read() is grpc.aio.EOF


async def test_thousands_of_messages_travel_both_ways_at_once(of: str) -> None:
    """In order, of any size."""
    said = [str(each).encode() * (each % 300) for each in range(3000)]
    async with _serving(of, stream_stream=kinds.talk) as channel:
        call = kinds.method(channel, "stream_stream")(kinds.stream_of(*said), timeout=120)
        assert [each async for each in call] == said


async def test_many_calls_run_at_the_same_time(of: str) -> None:
    """On one connection: none ends before all have begun."""
    count, begun, peers, go_on = 1000, 0, set[str](), asyncio.Event()

    async def wait(request: bytes, context: Any) -> bytes:
        nonlocal begun
        begun += 1
        peers.add(context.peer())
        if begun == count:
            go_on.set()
        await go_on.wait()
        return request

    async with _serving(of, unary_unary=wait) as channel:
        say = kinds.method(channel, "unary_unary")
        said = [str(each).encode() for each in range(count)]
        assert await asyncio.gather(*[say(each, timeout=60) for each in said]) == said
        assert len(peers) == 1


async def test_a_server_may_answer_before_it_was_told_everything(of: str) -> None:
    """Who still sends is stopped, and the answer counts."""

    async def join(requests: AsyncIterator[bytes], context: Any) -> bytes:
        return await anext(requests)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(10_000)
            await asyncio.sleep(0)

    async with _serving(of, stream_unary=join) as channel:
        call = kinds.method(channel, "stream_unary")(endless(), timeout=60)
        assert await call == bytes(10_000)
        assert nothing_is_left(channel)
