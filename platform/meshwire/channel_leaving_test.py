"""A channel leaves a server when it is told to, or is closed, and what becomes of its calls."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import uvloop

from meshtest.child_server import free_port
from meshtest.eventually import eventually
from meshwire import frames, kinds
from meshwire.channel import WireChannel
from meshwire.scripted_server import ANSWER, Peer, scripted
from meshwire.wire_calls import UNSEEN, failure, nothing_is_left, reach, say

_CODE = grpc.StatusCode


# Leaving.


async def test_who_is_told_to_leave_goes_elsewhere_with_what_nobody_took() -> None:
    """What was taken is answered where it began, and then the connection ends."""
    ended = asyncio.Event()
    timeouts: list[float] = []

    async def leave(peer: Peer) -> None:
        await peer.greet()
        taken, _ = await peer.call()
        _, said = await peer.call()
        timeouts.append(_seconds(said["grpc-timeout"]))
        await peer.call()
        # Some of its deadline passes.
        at = asyncio.get_running_loop().time()
        await eventually(lambda: asyncio.get_running_loop().time() > at + 0.1)
        peer.send(frames.goaway(taken, frames.NO_ERROR))
        await eventually(lambda: len(timeouts) == 2)
        peer.answer(taken, b"here")
        await peer.ended()
        ended.set()

    async def serve(peer: Peer) -> None:
        await peer.greet()
        number, said = await peer.call()
        timeouts.append(_seconds(said["grpc-timeout"]))
        peer.answer(number, b"there")
        await peer.ended()

    async with scripted(leave, serve) as server, WireChannel(server.target, reach()) as channel:
        taken = say(channel)
        again = say(channel)
        stream = kinds.method(channel, "stream_unary")(kinds.stream_of(b""), timeout=60)
        error = await failure(stream)
        # Its requests may be gone.
        assert error.code() is _CODE.UNAVAILABLE
        assert tuple(error.trailing_metadata() or ()) == UNSEEN
        assert await again == b"there"
        assert timeouts[1] <= timeouts[0] - 0.1
        assert await taken == b"here"
        await asyncio.wait_for(ended.wait(), 60)
        await eventually(lambda: nothing_is_left(channel))
        assert len(server.came) == 2


def _seconds(timeout: str) -> float:
    return int(timeout[:-1]) * {"n": 1e-9, "u": 1e-6, "m": 1e-3, "S": 1.0}[timeout[-1]]


async def test_a_call_that_is_refused_is_made_once_more() -> None:
    """And not a third time: then its caller is told that nobody has seen it."""
    refused: list[int] = []

    async def refuse(peer: Peer) -> None:
        await peer.greet()
        for _ in range(3):
            number, _ = await peer.call()
            refused.append(number)
            peer.send(frames.rst_stream(number, frames.REFUSED_STREAM))
        number, _ = await peer.call()
        peer.answer(number, b"taken")
        await peer.ended()

    async with scripted(refuse) as server, WireChannel(server.target, reach()) as channel:
        error = await failure(say(channel))
        assert (error.code(), error.details()) == (_CODE.UNAVAILABLE, "Nobody took the call.")
        assert tuple(error.trailing_metadata() or ()) == UNSEEN
        assert await say(channel) == b"taken"
        assert refused == [1, 3, 5]


async def test_a_call_that_was_answered_is_not_made_again() -> None:
    """Whatever a server says of it after that."""

    async def tell(peer: Peer) -> None:
        await peer.greet()
        number, _ = await peer.call()
        peer.say(number, *ANSWER)
        peer.tell(number, b"1")
        peer.send(frames.rst_stream(number, frames.REFUSED_STREAM))
        with pytest.raises(EOFError):
            await peer.call()

    async with scripted(tell) as server, WireChannel(server.target, reach()) as channel:
        call = kinds.method(channel, "unary_stream")(b"", timeout=60)
        assert await call.read() == b"1"
        error = await failure(call.read())
        assert (error.code(), error.trailing_metadata()) == (_CODE.UNAVAILABLE, grpc.aio.Metadata())


# Closing.


@pytest.mark.parametrize("grace", [None, 60.0])
async def test_a_closed_channel_makes_no_calls(grace: float | None) -> None:
    """What is under way ends within the grace, and what waits does not begin."""
    called, go_on = asyncio.Event(), asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.greet({frames.MAX_CONCURRENT_STREAMS: 1})
        number, _ = await peer.call()
        called.set()
        await go_on.wait()
        peer.answer(number, b"served")
        await peer.ended()
        assert not [each for each in peer.seen if each.kind == frames.HEADERS][1:]

    async with scripted(serve) as server:
        channel = WireChannel(server.target, reach())
        under_way, waiting = say(channel), say(channel)
        await called.wait()
        closing = asyncio.create_task(channel.close(grace))
        error = await failure(waiting)
        assert (error.code(), error.details()) == (_CODE.UNAVAILABLE, "The channel is closed.")
        error = await failure(say(channel))
        assert (error.code(), error.details()) == (_CODE.UNAVAILABLE, "The channel is closed.")
        go_on.set()
        if grace is None:
            error = await failure(under_way)
            assert error.details() == "The connection was lost: The channel is closed."
        else:
            assert await under_way == b"served"
        await asyncio.wait_for(closing, 60)
        await channel.close()
        with pytest.raises(grpc.aio.UsageError):
            await channel.channel_ready()


async def test_a_channel_is_closed_while_it_connects() -> None:
    """The connection is not kept, and calls are told."""
    ended = asyncio.Event()

    async def be_silent(peer: Peer) -> None:
        await peer.ended()
        ended.set()

    async with scripted(be_silent) as server:
        channel = WireChannel(server.target, reach())
        call = say(channel)
        await eventually(lambda: server.came)
        await channel.close()
        assert (await failure(call)).details() == "The channel is closed."
        await asyncio.wait_for(ended.wait(), 60)


async def test_the_requests_of_a_call_that_never_began_are_not_asked_for() -> None:
    """Nobody could say what was made of them."""
    asked = False

    async def requests() -> AsyncIterator[bytes]:
        nonlocal asked
        asked = True
        yield b""

    async with WireChannel(f"127.0.0.1:{free_port()}", reach()) as channel:
        call = kinds.method(channel, "stream_stream")(requests(), timeout=60)
        assert (await failure(call.read())).code() is _CODE.UNAVAILABLE
        assert not asked


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_channel_may_be_closed_at_any_moment_of_connecting(run: Any) -> None:
    """Also in the turn of the loop in which it is connected: nothing goes on then."""

    async def close() -> None:
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
        async with scripted(lambda peer: peer.ended()) as server:
            for turns in range(16):
                channel = WireChannel(server.target, reach())
                channel.get_state(try_to_connect=True)
                for _ in range(turns):
                    await asyncio.sleep(0)
                await channel.close()
            await asyncio.sleep(0)
        assert not faults

    run(close())
