"""What a server may say of a call, and what its caller makes of that."""

import asyncio
from collections.abc import Callable

import grpc
import pytest

from meshtest.eventually import eventually
from meshwire import frames, kinds
from meshwire.channel import WireChannel
from meshwire.frames import END_STREAM, frame
from meshwire.scripted_server import ANSWER, Peer, Script, scripted
from meshwire.stream import message
from meshwire.wire_calls import failure, nothing_is_left, reach, say

_CODE = grpc.StatusCode
_Says = Callable[[Peer, int], None]


def _answering(says: _Says) -> Script:
    """A script: says so of the first call, and serves those after it."""

    async def script(peer: Peer) -> None:
        await peer.greet()
        number, _ = await peer.call()
        says(peer, number)
        while True:
            try:
                number, _ = await peer.call()
            except EOFError:
                return
            peer.answer(number, b"next")

    return script


async def _outcome(says: _Says) -> grpc.aio.AioRpcError:
    """What the call fails with; the connection is good for another one after that."""
    async with scripted(_answering(says)) as server:
        async with WireChannel(server.target, reach()) as channel:
            error = await failure(say(channel))
            assert await say(channel) == b"next"
            assert nothing_is_left(channel)
        assert len(server.came) == 1
    return error


# Statuses.


@pytest.mark.parametrize("status", ["5", "0"])
async def test_a_status_may_come_alone(status: str) -> None:
    """In the headers; without an answer even OK is none."""

    def says(peer: Peer, number: int) -> None:
        peer.say(number, *ANSWER, ("grpc-status", status), ("grpc-message", "n%C3%B6"), ended=True)

    error = await _outcome(says)
    if status == "5":
        assert (error.code(), error.details()) == (_CODE.NOT_FOUND, "nö")
    else:
        assert error.code() is _CODE.INTERNAL


@pytest.mark.parametrize(
    ("http", "code"),
    [
        ("400", _CODE.INTERNAL),
        ("401", _CODE.UNAUTHENTICATED),
        ("403", _CODE.PERMISSION_DENIED),
        ("404", _CODE.UNIMPLEMENTED),
        ("418", _CODE.UNKNOWN),
        ("429", _CODE.UNAVAILABLE),
        ("500", _CODE.UNKNOWN),
        ("502", _CODE.UNAVAILABLE),
        ("503", _CODE.UNAVAILABLE),
        ("504", _CODE.UNAVAILABLE),
    ],
)
@pytest.mark.parametrize("has_page", [True, False])
async def test_what_a_proxy_says_in_http_is_a_status(
    http: str, code: grpc.StatusCode, has_page: bool
) -> None:
    """Whether it comes with a page or without."""

    def says(peer: Peer, number: int) -> None:
        said = ((":status", http), ("content-type", "text/html"))
        peer.say(number, *said, ended=not has_page)
        if has_page:
            peer.send(frame(frames.DATA, END_STREAM, number, b"<html>No.</html>"))

    error = await _outcome(says)
    assert (error.code(), error.details()) == (code, f"Received http2 header with status: {http}")


async def test_what_comes_before_the_answer_is_passed_over() -> None:
    """As often as it comes (RFC 9110, section 15.2)."""

    def says(peer: Peer, number: int) -> None:
        for _ in range(3):
            peer.say(number, (":status", "103"))
        peer.answer(number, b"1")

    async with (
        scripted(_answering(says)) as server,
        WireChannel(server.target, reach()) as channel,
    ):
        assert await say(channel) == b"1"


_Broken = tuple[_Says, grpc.StatusCode, str]


def _raw(kind: int, flags: int, content: bytes) -> _Says:
    """Headers, and then that."""

    def says(peer: Peer, number: int) -> None:
        peer.say(number, *ANSWER)
        peer.send(frame(kind, flags, number, content))

    return says


def _status_after(content: bytes) -> _Says:
    """Success, after that."""

    def says(peer: Peer, number: int) -> None:
        _raw(frames.DATA, 0, content)(peer, number)
        peer.say(number, ("grpc-status", "0"), ended=True)

    return says


@pytest.mark.parametrize(
    ("says", "code", "text"),
    [
        (_raw(frames.DATA, END_STREAM, b""), _CODE.INTERNAL, "ended without a status"),
        (_raw(frames.DATA, END_STREAM, message(b"1")), _CODE.INTERNAL, "ended without a status"),
        (_raw(frames.DATA, END_STREAM, b"\0\0"), _CODE.INTERNAL, "half a message"),
        (_status_after(message(b"12")[:-1]), _CODE.INTERNAL, "half a message"),
        (_status_after(b""), _CODE.INTERNAL, "Not one answer"),
        (_status_after(message(b"1") * 2), _CODE.INTERNAL, "Not one answer"),
        (_raw(frames.DATA, 0, b"<html>"), _CODE.INTERNAL, "no message of gRPC"),
        (_raw(frames.DATA, 0, b"\1" + message(b"1")[1:]), _CODE.INTERNAL, "packed"),
        (_raw(frames.DATA, 0, b"\0\xff\0\0\0"), _CODE.RESOURCE_EXHAUSTED, "larger than max"),
        (_raw(frames.HEADERS, frames.END_HEADERS, b"\x88"), _CODE.INTERNAL, "in the middle"),
        (_raw(frames.WINDOW_UPDATE, 0, bytes(4)), _CODE.INTERNAL, "does not grow"),
        (_raw(frames.WINDOW_UPDATE, 0, b"\x7f\xff\xff\xff"), _CODE.INTERNAL, "beyond all bounds"),
        (_raw(frames.RST_STREAM, 0, b"\0\0\0\x08"), _CODE.CANCELLED, "error code 8"),
        (_raw(frames.RST_STREAM, 0, b"\0\0\0\x0b"), _CODE.RESOURCE_EXHAUSTED, "error code 11"),
        (_raw(frames.RST_STREAM, 0, b"\0\0\0\x02"), _CODE.INTERNAL, "error code 2"),
    ],
)
async def test_an_answer_that_is_none_fails_its_call_alone(
    says: _Says, code: grpc.StatusCode, text: str
) -> None:
    """And the caller is told what was wrong."""
    error = await _outcome(says)
    assert error.code() is code
    assert text in (error.details() or "")


@pytest.mark.parametrize(
    ("trailers", "code", "details"),
    [
        ((("grpc-status", "5"), ("grpc-message", "%zz%")), _CODE.NOT_FOUND, "%zz%"),
        ((("grpc-status", "99"),), _CODE.UNKNOWN, ""),
        ((("grpc-status", "five"),), _CODE.UNKNOWN, ""),
        ((("grpc-message", "but why"),), _CODE.INTERNAL, "The call ended without a status."),
    ],
)
async def test_a_status_that_is_none_is_a_failure(
    trailers: tuple[tuple[str, str], ...], code: grpc.StatusCode, details: str
) -> None:
    """Of what kind it can be told."""

    def says(peer: Peer, number: int) -> None:
        peer.say(number, *ANSWER)
        peer.say(number, *trailers, ended=True)

    error = await _outcome(says)
    assert (error.code(), error.details()) == (code, details)


async def test_metadata_that_cannot_be_read_fails_the_call() -> None:
    """Bytes are base64."""

    def says(peer: Peer, number: int) -> None:
        peer.say(number, *ANSWER)
        block = frames.header_frames(
            number, b"\0\x05a-bin\x01!\0\x0bgrpc-status\x010", 16_384, ended=True
        )
        peer.send(block)

    error = await _outcome(says)
    assert (error.code(), error.details()) == (
        _CODE.INTERNAL,
        "binary metadata that is no base64",
    )


@pytest.mark.parametrize(
    "garbage",
    [
        bytes(range(200, 255)) * 10,
        frame(frames.HEADERS, frames.END_HEADERS, 3, b"\x88"),
        frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
        frame(frames.PUSH_PROMISE, frames.END_HEADERS, 1, b"\0\0\0\2\x88"),
        frame(frames.DATA, 0, 0, b"1"),
    ],
)
async def test_garbage_ends_the_connection_and_the_next_call_makes_another(garbage: bytes) -> None:
    """The server is told what it has done, and the caller that it is unavailable."""
    told = asyncio.Event()

    async def babble(peer: Peer) -> None:
        await peer.greet()
        await peer.call()
        peer.send(garbage)
        await peer.next(frames.GOAWAY)
        told.set()

    async def serve(peer: Peer) -> None:
        await peer.greet()
        number, _ = await peer.call()
        peer.answer(number, b"next")
        await peer.ended()

    async with (
        scripted(babble, serve) as server,
        WireChannel(server.target, reach()) as channel,
    ):
        error = await failure(say(channel))
        assert error.code() is _CODE.UNAVAILABLE
        assert (error.details() or "").startswith("The connection was lost: ")
        await asyncio.wait_for(told.wait(), 60)
        assert await say(channel) == b"next"


# Answers.


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_an_answer_that_its_caller_cannot_read_fails_the_call(kind: str) -> None:
    """Not as if somebody had cancelled it, and nothing more of it is read."""

    def read(content: bytes) -> int:
        return int(content)

    async def tell(peer: Peer) -> None:
        await peer.greet()
        number, _ = await peer.call()
        if kind == "unary_unary":
            peer.answer(number, b"one")
        else:
            peer.say(number, *ANSWER)
            peer.tell(number, b"1", b"one", b"2")
            assert (await peer.next(frames.RST_STREAM)).stream == number
        await peer.ended()

    async with scripted(tell) as server, WireChannel(server.target, reach()) as channel:
        call = kinds.method(channel, kind, response_deserializer=read)(b"", timeout=60)
        if kind == "unary_stream":
            assert await call.read() == 1
        error = await failure(call.read() if kind == "unary_stream" else call)
        assert (error.code(), error.details()) == (_CODE.INTERNAL, "An answer that cannot be read.")
        assert (await call.code(), await call.details()) == (error.code(), error.details())
        await eventually(lambda: nothing_is_left(channel))
        if kind == "unary_stream":
            assert (await failure(call.read())).code() is _CODE.INTERNAL


async def test_answers_before_a_failure_are_read_before_it() -> None:
    """They were given, whatever came then."""

    def says(peer: Peer, number: int) -> None:
        peer.say(number, *ANSWER)
        peer.tell(number, b"1", b"", b"2")
        peer.say(number, ("grpc-status", "8"), ended=True)

    async with (
        scripted(_answering(says)) as server,
        WireChannel(server.target, reach()) as channel,
    ):
        call = kinds.method(channel, "unary_stream")(b"", timeout=60)
        assert await call.code() is _CODE.RESOURCE_EXHAUSTED
        assert [await call.read() for _ in range(3)] == [b"1", b"", b"2"]
        assert (await failure(call.read())).code() is _CODE.RESOURCE_EXHAUSTED


async def test_an_answer_stream_that_nobody_reads_is_stopped() -> None:
    """The server gets room for more as its answers are read."""
    one, sent = bytes(1 << 14), 0

    async def tell(peer: Peer) -> None:
        nonlocal sent
        await peer.greet()
        number, _ = await peer.call()
        peer.say(number, *ANSWER)
        room = 1 << 20
        while True:
            while room >= len(one) + 5:
                for part in (message(one)[:16_384], message(one)[16_384:]):
                    peer.send(frame(frames.DATA, 0, number, part))
                room -= len(one) + 5
                sent += 1
            while (update := await peer.next(frames.WINDOW_UPDATE)).stream != number:
                pass
            room += frames.read_number(update.content)

    async with scripted(tell) as server, WireChannel(server.target, reach()) as channel:
        call = kinds.method(channel, "unary_stream")(b"", timeout=60)
        assert await call.read() == one
        # By the time of these answers the window is empty, and is not opened again.
        before = 0
        while before < sent:
            before = sent
            assert await call.read() == one
        assert sent <= 200
        for _ in range(500):
            assert await call.read() == one
        call.cancel()
