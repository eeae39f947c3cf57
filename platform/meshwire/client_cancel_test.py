"""A call that is given up is reset at its server, whenever that is, and nothing is left of it."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from meshtest.child_server import free_port
from meshtest.eventually import eventually
from meshwire import frames, kinds
from meshwire.channel import WireChannel
from meshwire.client_call import ClientCall
from meshwire.scripted_server import ANSWER, Peer, scripted
from meshwire.wire_calls import failure, nothing_is_left, reach, say

_CODE = grpc.StatusCode
_CANCEL = frames.CANCEL.to_bytes(4)


class _Server:
    """Takes one call, says a little of it, and waits for its end; then serves another one."""

    def __init__(self, *, answers: int = 0) -> None:
        self.called = asyncio.Event()
        self.reset: bytes | None = None
        self._answers = answers

    async def script(self, peer: Peer) -> None:
        await peer.greet()
        number, _ = await peer.call()
        if self._answers:
            peer.say(number, *ANSWER)
            peer.tell(number, *[b"1"] * self._answers)
        self.called.set()
        reset = await peer.next(frames.RST_STREAM)
        assert reset.stream == number
        self.reset = reset.content
        number, _ = await peer.call()
        peer.answer(number, b"next")
        await peer.ended()


async def _is_reset(server: _Server, channel: WireChannel) -> None:
    assert await say(channel) == b"next"
    assert server.reset == _CANCEL
    assert nothing_is_left(channel)


def _begin(channel: WireChannel, kind: str) -> Any:
    requests = kinds.stream_of(b"1") if kind.startswith("stream_") else b"1"
    return kinds.method(channel, kind)(requests, timeout=60)


@pytest.mark.parametrize("kind", kinds.KINDS)
async def test_a_call_that_is_cancelled_is_reset(kind: str) -> None:
    """Whoever reads it gets CancelledError."""
    server = _Server(answers=2)
    async with scripted(server.script) as at, WireChannel(at.target, reach()) as channel:
        call = _begin(channel, kind)
        await server.called.wait()
        if kind.endswith("_stream"):
            assert await call.read() == b"1"
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await (call.read() if kind.endswith("_stream") else call)
        assert await call.code() is _CODE.CANCELLED
        await _is_reset(server, channel)


@pytest.mark.parametrize("kind", kinds.KINDS)
async def test_who_is_cancelled_while_it_waits_for_a_call_cancels_it(kind: str) -> None:
    """Nobody else would."""
    server = _Server()
    async with scripted(server.script) as at, WireChannel(at.target, reach()) as channel:
        call = _begin(channel, kind)
        waiting = asyncio.ensure_future(call.read() if kind.endswith("_stream") else call)
        await server.called.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await _is_reset(server, channel)


async def test_who_waits_for_a_status_alone_may_stop_waiting() -> None:
    """The call goes on, as gRPC's own do."""

    async def tell(peer: Peer) -> None:
        await peer.greet()
        number, _ = await peer.call()
        await stopped.wait()
        peer.answer(number, b"1")
        await peer.ended()

    stopped = asyncio.Event()
    async with scripted(tell) as at, WireChannel(at.target, reach()) as channel:
        call = say(channel)
        waiting = [asyncio.ensure_future(each()) for each in (call.code, call.details)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        stopped.set()
        assert await call == b"1"
        assert await waiting[1] == ""


async def test_a_deadline_resets_its_call() -> None:
    """Whether or not the server keeps it, too."""
    server = _Server(answers=1)
    async with scripted(server.script) as at, WireChannel(at.target, reach()) as channel:
        await channel.channel_ready()
        call = kinds.method(channel, "unary_stream")(b"", timeout=0.5)
        assert await call.read() == b"1"
        error = await failure(call.read())
        assert (error.code(), error.details()) == (_CODE.DEADLINE_EXCEEDED, "Deadline Exceeded")
        await _is_reset(server, channel)


@pytest.mark.parametrize("by", ["cancel", "deadline"])
async def test_a_call_that_waits_for_a_connection_may_be_given_up(by: str) -> None:
    """At once; the server never hears of it."""
    go_on, names = asyncio.Event(), list[str]()

    async def begin_late(peer: Peer) -> None:
        await go_on.wait()
        await peer.greet()
        number, said = await peer.call()
        names.append(said["name"])
        peer.answer(number, b"1")
        await peer.ended()

    async with scripted(begin_late) as at, WireChannel(at.target, reach()) as channel:
        name = (("name", "given up"),)
        call = say(channel, metadata=name, timeout=0.05 if by == "deadline" else 60)
        if by == "cancel":
            assert call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        else:
            assert (await failure(call)).code() is _CODE.DEADLINE_EXCEEDED
        assert nothing_is_left(channel)
        go_on.set()
        assert await say(channel, metadata=(("name", "next"),)) == b"1"
        assert names == ["next"]


@pytest.mark.parametrize("timeout", [0.0, -1.0])
async def test_a_call_without_time_is_too_late(timeout: float) -> None:
    """Before anybody could answer."""
    async with WireChannel(f"127.0.0.1:{free_port()}", reach()) as channel:
        error = await failure(say(channel, timeout=timeout))
        assert error.code() is _CODE.DEADLINE_EXCEEDED
        assert nothing_is_left(channel)


async def test_what_has_ended_is_let_go() -> None:
    """At once, and not when a garbage collector comes by, whatever it ended with."""
    server = _Server()
    async with scripted(server.script) as at, WireChannel(at.target, reach()) as channel:
        gc.collect()
        gc.disable()
        try:
            call = say(channel)
            await server.called.wait()
            call.cancel()
            del call
            assert await say(channel) == b"next"
            await asyncio.sleep(0)
            assert not [each for each in gc.get_objects() if isinstance(each, ClientCall)]
        finally:
            gc.enable()


# Requests.


async def test_requests_that_fail_end_their_call() -> None:
    """The caller is told of which error, and the loop's handler gets it whole."""
    server, seen = _Server(), list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))

    async def requests() -> AsyncIterator[bytes]:
        yield b"1"
        await server.called.wait()
        raise LookupError("nothing there")

    async with scripted(server.script) as at, WireChannel(at.target, reach()) as channel:
        call = kinds.method(channel, "stream_unary")(requests(), timeout=60)
        error = await failure(call)
        assert (error.code(), error.details()) == (
            _CODE.UNKNOWN,
            "The requests failed: LookupError.",
        )
        assert [type(each["exception"]) for each in seen] == [LookupError]
        await _is_reset(server, channel)


async def test_requests_that_were_cancelled_cancel_their_call() -> None:
    """Nobody sends the rest, and the server would wait for it."""
    server = _Server()

    async def requests() -> AsyncIterator[bytes]:
        yield b"1"
        await server.called.wait()
        raise asyncio.CancelledError

    async with scripted(server.script) as at, WireChannel(at.target, reach()) as channel:
        call = kinds.method(channel, "stream_stream")(requests(), timeout=60)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(call.read()), 60)
        await _is_reset(server, channel)


async def test_requests_that_never_end_are_stopped_with_their_call() -> None:
    """And no more of them is asked for than the server has room for."""
    given = 0

    async def requests() -> AsyncIterator[bytes]:
        nonlocal given
        while True:
            given += 1
            yield bytes(10_000)
            await asyncio.sleep(0)

    server = _Server()
    async with scripted(server.script) as at, WireChannel(at.target, reach()) as channel:
        call = kinds.method(channel, "stream_unary")(requests(), timeout=60)
        await server.called.wait()
        # 65,535 bytes, and one message that waits.
        await eventually(lambda: given >= 7)
        assert given <= 7
        call.cancel()
        await _is_reset(server, channel)
        assert given <= 7


async def test_an_answer_ends_a_call_whose_requests_go_on() -> None:
    """What is not sent yet is of no use any more."""

    async def tell(peer: Peer) -> None:
        await peer.greet()
        number, _ = await peer.call()
        peer.answer(number, b"1")
        assert (await peer.next(frames.RST_STREAM)).content == bytes(4)
        await peer.ended()

    async def requests() -> AsyncIterator[bytes]:
        yield b"1"
        await asyncio.Event().wait()

    async with scripted(tell) as at, WireChannel(at.target, reach()) as channel:
        assert await kinds.method(channel, "stream_unary")(requests(), timeout=60) == b"1"
        assert nothing_is_left(channel)
