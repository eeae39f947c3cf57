"""A channel finds its server, says why there is none, and asks no more of it than it takes."""

import asyncio
from typing import Any, cast

import grpc
import pytest

from meshtest.child_server import free_port
from meshtest.eventually import eventually
from meshwire import frames
from meshwire.channel import WireChannel
from meshwire.scripted_server import Peer, scripted, serve
from meshwire.wire_calls import failure, nothing_is_left, reach, say

_CODE = grpc.StatusCode
_STATE = grpc.ChannelConnectivity
_FIRST_PAUSE_SECONDS = 0.02
# What the first ones are at least: each is 1.6 times the one before, or a fifth less.
_PAUSES_SECONDS = (0.016, 0.0256, 0.04096, 0.065536)


# Connecting.


async def test_states_are_those_of_gRPC() -> None:
    """Nothing is connected before it is asked for, and what is lost is not missed at once."""
    go_away = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.greet()
        await go_away.wait()

    async with scripted(serve) as server, WireChannel(server.target, reach()) as channel:
        assert channel.get_state() is _STATE.IDLE
        assert channel.get_state(try_to_connect=True) is _STATE.CONNECTING
        await asyncio.wait_for(channel.wait_for_state_change(_STATE.CONNECTING), 60)
        assert channel.get_state() is _STATE.READY
        await asyncio.wait_for(channel.channel_ready(), 60)
        go_away.set()
        await asyncio.wait_for(channel.wait_for_state_change(_STATE.READY), 60)
        assert channel.get_state() is _STATE.IDLE
    assert channel.get_state(try_to_connect=True) is _STATE.SHUTDOWN


async def test_a_server_that_is_away_is_found_when_it_is_back() -> None:
    """Until then calls fail at once, with the cause."""
    port = free_port()
    async with WireChannel(f"127.0.0.1:{port}", reach()) as channel:
        for _ in range(2):
            error = await failure(say(channel))
            assert error.code() is _CODE.UNAVAILABLE
            assert (error.details() or "").startswith(f"Failed to connect to 127.0.0.1:{port}: ")
            assert channel.get_state() is _STATE.TRANSIENT_FAILURE
        listener = await asyncio.start_server(
            lambda reader, writer: serve(Peer(reader, writer)), "127.0.0.1", port
        )
        async with listener:
            await asyncio.wait_for(channel.channel_ready(), 60)
            assert await say(channel) == b"served"
            await channel.close()


async def test_a_server_that_does_not_begin_is_none() -> None:
    """It takes connections, and nothing comes; calls wait no longer than an attempt may take."""

    async def be_silent(peer: Peer) -> None:
        await peer.ended()

    async with (
        scripted(be_silent) as server,
        WireChannel(server.target, reach(connect_seconds=0.1)) as channel,
    ):
        error = await failure(say(channel))
        assert error.code() is _CODE.UNAVAILABLE
        assert error.details() == f"Failed to connect to {server.target}: it does not answer"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "it was closed"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "a frame that is too large"),
        (frames.frame(frames.PING, 0, 1, bytes(8)), "a ping on a stream"),
        (frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 31}), "a window beyond all bounds"),
        (frames.settings({}) + frames.goaway(0, frames.NO_ERROR), "it left"),
        (frames.goaway(0, frames.NO_ERROR), "it was closed"),
    ],
)
async def test_who_does_not_speak_as_a_server_does_is_none(said: bytes, why: str) -> None:
    """Calls are told what was wrong, and it is asked less and less often."""

    async def answer(peer: Peer) -> None:
        # Who goes with something unread breaks off.
        await peer.preface()
        peer.send(said)
        if said:
            await peer.ended()

    async with (
        scripted(answer) as server,
        WireChannel(server.target, reach(first_pause_seconds=_FIRST_PAUSE_SECONDS)) as channel,
    ):
        begun = asyncio.get_running_loop().time()
        error = await failure(say(channel))
        assert error.code() is _CODE.UNAVAILABLE
        assert error.details() == (
            f"Failed to connect to {server.target}: it did not begin to speak HTTP/2: {why}"
        )
        await eventually(lambda: len(server.came) > len(_PAUSES_SECONDS))
        assert server.came[len(_PAUSES_SECONDS)] - begun >= sum(_PAUSES_SECONDS)


async def test_a_server_that_leaves_whenever_it_is_found_is_not_asked_all_the_time() -> None:
    """Not even while a call waits that it never takes."""

    async def leave(peer: Peer) -> None:
        await peer.greet({frames.MAX_CONCURRENT_STREAMS: 0})

    async with (
        scripted(leave) as server,
        WireChannel(server.target, reach(first_pause_seconds=_FIRST_PAUSE_SECONDS)) as channel,
    ):
        begun = asyncio.get_running_loop().time()
        call = say(channel)
        await eventually(lambda: len(server.came) > len(_PAUSES_SECONDS))
        assert server.came[len(_PAUSES_SECONDS)] - begun >= sum(_PAUSES_SECONDS)
        call.cancel()
        assert nothing_is_left(channel)


# Room.


async def test_calls_wait_for_room_in_their_order() -> None:
    """A server is never asked for more at a time than it takes."""
    running, order, go_on = set[int](), list[str](), asyncio.Semaphore(0)

    async def serve(peer: Peer) -> None:
        await peer.greet({frames.MAX_CONCURRENT_STREAMS: 2})

        async def end() -> None:
            while True:
                await go_on.acquire()
                number = min(running)
                running.remove(number)
                peer.answer(number, b"")

        async with asyncio.TaskGroup() as group:
            ending = group.create_task(end())
            for _ in range(6):
                number, said = await peer.call()
                running.add(number)
                order.append(said["name"])
                assert len(running) <= 2
            await eventually(lambda: not running)
            ending.cancel()
        await peer.ended()

    async with scripted(serve) as server, WireChannel(server.target, reach()) as channel:
        calls = [
            asyncio.ensure_future(say(channel, metadata=(("name", str(each)),)))
            for each in range(6)
        ]
        for done in range(6):
            await eventually(lambda done=done: len(order) == min(done + 2, 6))
            go_on.release()
        await asyncio.gather(*calls)
        assert order == [str(each) for each in range(6)]
        assert nothing_is_left(channel)


async def test_a_call_that_is_given_up_while_it_waits_is_never_made() -> None:
    """Cancelled or too late, it leaves nothing behind, and those behind it go on."""
    names: list[str] = []
    go_on = asyncio.Event()

    async def serve(peer: Peer) -> None:
        await peer.greet({frames.MAX_CONCURRENT_STREAMS: 1})
        number, said = await peer.call()
        names.append(said["name"])
        await go_on.wait()
        peer.answer(number, b"")
        number, said = await peer.call()
        names.append(said["name"])
        peer.answer(number, b"")
        await peer.ended()

    async with scripted(serve) as server, WireChannel(server.target, reach()) as channel:

        def begin(name: str, timeout: float) -> Any:
            return say(channel, timeout=timeout, metadata=(("name", name),))

        first = begin("first", 60)
        await eventually(lambda: names)
        late, cancelled, last = begin("late", 0.05), begin("cancelled", 60), begin("last", 60)
        assert cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert (await failure(late)).code() is _CODE.DEADLINE_EXCEEDED
        assert list(cast(Any, channel)._waiting) == [last]
        go_on.set()
        assert [await first, await last] == [b"", b""]
        assert names == ["first", "last"]
        assert nothing_is_left(channel)


async def test_what_waits_for_room_goes_elsewhere_when_its_connection_is_lost() -> None:
    """It was not sent there; what was is lost."""

    async def break_off(peer: Peer) -> None:
        await peer.greet({frames.MAX_CONCURRENT_STREAMS: 1})
        await peer.call()

    async with (
        scripted(break_off, serve) as server,
        WireChannel(server.target, reach()) as channel,
    ):
        lost, waiting = say(channel), say(channel)
        error = await failure(lost)
        assert (error.code(), error.details()) == (
            _CODE.UNAVAILABLE,
            "The connection was lost: it was closed",
        )
        assert await asyncio.wait_for(waiting, 60) == b"served"
        assert nothing_is_left(channel)
