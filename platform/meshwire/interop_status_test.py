"""gRPC's own client is served by this server as by its own: what it is told besides."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from meshwire import kinds
from meshwire.server import Limits, Server

_CODE = grpc.StatusCode


async def test_metadata_travels_both_ways() -> None:
    """Text and bytes, before the answer and behind it, and as much as there is."""
    metadata = (("x-text", "a, b=c"), ("x-empty", ""), ("x-long", "v" * 40_000), ("x-text", "2"))
    binary = tuple(("x-bytes-bin", bytes(range(size))) for size in (0, 1, 2, 3, 256))
    seen: Any = ()

    async def say(request: bytes, context: Any) -> bytes:
        nonlocal seen
        seen = tuple(each for each in context.invocation_metadata() if each[0].startswith("x-"))
        await context.send_initial_metadata(metadata + binary)
        context.set_trailing_metadata(binary + metadata)
        return request

    async with kinds.serving(unary_unary=say) as channel:
        call = kinds.method(channel, "unary_unary")(b"", metadata=metadata + binary, timeout=60)
        assert await call == b""
        assert sorted(seen) == sorted(metadata + binary)
        first = [each for each in await call.initial_metadata() if each[0].startswith("x-")]
        assert sorted(first) == sorted(metadata + binary)
        last = [each for each in await call.trailing_metadata() if each[0].startswith("x-")]
        assert sorted(last) == sorted(binary + metadata)


@pytest.mark.parametrize("metadata", [("Upper", "a"), ("x", "two\nlines"), ("x", "é"), ("", "a")])
@pytest.mark.parametrize("when", ["first", "last", "abort"])
async def test_metadata_that_is_none_costs_its_call_alone(
    metadata: tuple[str, str], when: str
) -> None:
    """The others on the connection go on."""

    async def say(request: bytes, context: Any) -> bytes:
        if request == b"wait":
            began.set()
            await go_on.wait()
        elif when == "first":
            await context.send_initial_metadata((metadata,))
        elif when == "last":
            context.set_trailing_metadata((metadata,))
        else:
            await context.abort(_CODE.NOT_FOUND, "", (metadata,))
        return request

    began, go_on = asyncio.Event(), asyncio.Event()
    async with kinds.serving(unary_unary=say) as channel:
        other = kinds.method(channel, "unary_unary")(b"wait", timeout=60)
        await began.wait()
        call = kinds.method(channel, "unary_unary")(b"", timeout=60)
        assert await call.code() == _CODE.UNKNOWN
        assert await call.details() == "Unexpected ValueError."
        go_on.set()
        assert await other == b"wait"


_TEXTS = (
    "",
    "plain text",
    " 100% \t\r\n\0\x7f ",
    "".join(chr(each) for each in range(0x20, 0x2FF)),
    "\u6f22\u5b57 \U0001f600 e\u0301 \u202e",
    "x" * 40_000,
)


@pytest.mark.parametrize("code", [each for each in _CODE if each is not _CODE.OK])
async def test_every_status_comes_with_any_text(code: grpc.StatusCode) -> None:
    """And with what else the handler says at the end, in calls of either kind."""

    async def say(request: bytes, context: Any) -> None:
        await context.abort(code, request.decode(), (("x-why-bin", request[:9]),))

    async def tell(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield request
        await context.abort(code, request.decode(), (("x-why-bin", request[:9]),))

    async with kinds.serving(unary_unary=say, unary_stream=tell) as channel:
        for text in _TEXTS:
            for kind in ("unary_unary", "unary_stream"):
                call = kinds.method(channel, kind)(text.encode(), timeout=60)
                if kind == "unary_stream":
                    assert await call.read() == text.encode()
                assert await call.code() == code
                assert await call.details() == text
                assert ("x-why-bin", text.encode()[:9]) in tuple(await call.trailing_metadata())


async def test_a_handler_may_say_its_status_without_an_exception() -> None:
    """As with gRPC's own server."""

    async def say(request: bytes, context: Any) -> bytes:
        context.set_code(_CODE.NOT_FOUND)
        context.set_details("said")
        return b""

    async with kinds.serving(unary_unary=say) as channel:
        call = kinds.method(channel, "unary_unary")(b"", timeout=60)
        assert (await call.code(), await call.details()) == (_CODE.NOT_FOUND, "said")


class _Waiting:
    """Handlers that wait, and say what becomes of them."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.remaining_seconds: float | None = None

    async def say(self, request: bytes, context: Any) -> bytes:
        self.remaining_seconds = context.time_remaining()
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return b""

    async def tell(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        yield await self.say(request, context)


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_a_deadline_ends_the_handler(kind: str) -> None:
    """The handler knows of it, and so does the caller."""
    waiting = _Waiting()
    async with kinds.serving(unary_unary=waiting.say, unary_stream=waiting.tell) as channel:
        call = kinds.method(channel, kind)(b"", timeout=0.2)
        if kind == "unary_stream":
            assert await call.read() == b"first"
        assert await call.code() == _CODE.DEADLINE_EXCEEDED
        await asyncio.wait_for(waiting.cancelled.wait(), 60)
    assert waiting.remaining_seconds is not None
    assert 0 < waiting.remaining_seconds <= 0.21


async def test_a_call_without_a_deadline_has_all_the_time() -> None:
    """Its handler is told so."""
    waiting = _Waiting()
    async with kinds.serving(unary_unary=waiting.say) as channel:
        call = kinds.method(channel, "unary_unary")(b"")
        await waiting.began.wait()
        assert waiting.remaining_seconds is None
        call.cancel()
        await asyncio.wait_for(waiting.cancelled.wait(), 60)


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_a_caller_that_gives_up_ends_the_handler(kind: str) -> None:
    """At once, and not at the deadline."""
    waiting = _Waiting()
    async with kinds.serving(unary_unary=waiting.say, unary_stream=waiting.tell) as channel:
        call = kinds.method(channel, kind)(b"", timeout=600)
        if kind == "unary_stream":
            assert await call.read() == b"first"
        await waiting.began.wait()
        call.cancel()
        await asyncio.wait_for(waiting.cancelled.wait(), 60)


async def test_a_handler_that_fails_says_no_more_than_what(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its exception is for the log of the server."""

    async def say(request: bytes, context: Any) -> bytes:
        raise KeyError("secret")

    async def tell(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        raise KeyError("secret")

    async with kinds.serving(unary_unary=say, unary_stream=tell) as channel:
        for kind in ("unary_unary", "unary_stream"):
            with caplog.at_level(logging.ERROR, logger="asyncio"):
                call = kinds.method(channel, kind)(b"", timeout=60)
                if kind == "unary_stream":
                    assert await call.read() == b"first"
                assert await call.code() == _CODE.UNKNOWN
            assert await call.details() == "Unexpected KeyError."
            assert "secret" in caplog.text
            caplog.clear()


async def test_a_message_that_its_codec_refuses_ends_the_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A request by its caller's fault, an answer by the handler's, which is logged."""

    async def say(request: StringValue, context: Any) -> object:
        return object()

    async def talk(requests: AsyncIterator[StringValue], context: Any) -> AsyncIterator[object]:
        async for _ in requests:
            yield object()

    server = Server(Limits(most_message_bytes=1000))
    codec: Any = {
        "request_deserializer": StringValue.FromString,
        "response_serializer": StringValue.SerializeToString,
    }
    behaviours = {"unary_unary": say, "stream_stream": talk}
    server.add(
        kinds.SERVICE, {kind: kinds.KINDS[kind](each, **codec) for kind, each in behaviours.items()}
    )
    async with kinds.connect(await server.listen("127.0.0.1:0")) as channel:
        for kind in behaviours:
            for request, text in (
                (b"\xff", "Exception deserializing request!"),
                (b"", "Failed to serialize response!"),
            ):
                sent = request if kind == "unary_unary" else kinds.stream_of(request)
                call = kinds.method(channel, kind)(sent, timeout=60)
                assert (await call.code(), await call.details()) == (_CODE.INTERNAL, text)
    await server.stop(0)
    assert len([each for each in caplog.records if each.message == "a handler failed"]) == 2


async def test_a_message_that_is_too_large_is_refused() -> None:
    """Also when it travels packed; the connection goes on."""
    async with kinds.serving(unary_unary=kinds.say) as channel:
        say = kinds.method(channel, "unary_unary")
        for packing in (None, grpc.Compression.Gzip):
            call = say(bytes((9 << 20) + 1), compression=packing, timeout=60)
            assert await call.code() == _CODE.RESOURCE_EXHAUSTED
            assert await say(b"still there", timeout=60) == b"still there"


async def test_what_is_not_served_is_unimplemented() -> None:
    """By its path."""
    async with kinds.serving(unary_unary=kinds.say) as channel:
        call = channel.unary_unary("/Other/say")(b"x", timeout=60)
        assert await call.code() == _CODE.UNIMPLEMENTED
        assert await call.details() == "Nothing is served as /Other/say."


@pytest.mark.parametrize("path", [f"/{kinds.SERVICE}/stream_stream", "/nothing/Here"])
async def test_a_stream_that_is_refused_at_once_says_why(path: str) -> None:
    """Its status does not come before its first request is on its way: gRPC's own client would
    take that for a fault of its own."""

    async def refuse(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        await context.abort(_CODE.UNIMPLEMENTED, "no")
        yield b""

    async with kinds.serving(stream_stream=refuse) as channel:
        for _ in range(100):
            call = channel.stream_stream(path)(kinds.stream_of(b"a"), timeout=60)
            assert await call.code() == _CODE.UNIMPLEMENTED
