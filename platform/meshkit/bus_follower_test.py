"""A stream is followed in order from a place on, and no fault passes unnoticed."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from meshkit.bus import Bus, Follower, StreamSpec
from meshkit.errors import DependencyUnavailable
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer

pytest_plugins = ["meshtest.fixtures"]


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """With a stream."""
    async with await Bus.connect(nats_server.url, name="test") as bus:
        await bus.ensure_stream(StreamSpec(name="S", subjects=("s.*",), description="A test's."))
        yield bus


async def _fill(bus: Bus, first: int, last: int) -> None:
    for number in range(first, last + 1):
        await bus.append("s.a", b"%d" % number, expected_last=number - 1)


async def _next(follower: Follower, count: int) -> list[int]:
    """The sequences of the next messages."""
    found: list[int] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            await follower.wait()
            messages = await follower.take()
            assert all(each.payload == b"%d" % each.sequence for each in messages)
            found += [each.sequence for each in messages]
    return found


async def test_what_is_there_and_what_comes_arrives_once_and_in_order(bus: Bus) -> None:
    """From the place on, though many more messages are stored than are read ahead."""
    await _fill(bus, 1, 60)
    async with bus.follow("S", "s.*", start_sequence=11, window=8) as follower:
        assert await _next(follower, 50) == list(range(11, 61))
        await _fill(bus, 61, 65)
        assert await _next(follower, 5) == list(range(61, 66))


async def test_no_more_is_read_ahead_than_the_window(bus: Bus) -> None:
    """A reader that stops for a while is waited for."""
    await _fill(bus, 1, 30)
    async with bus.follow("S", "s.*", start_sequence=1, window=8) as follower:
        await follower.wait()
        info = await bus.stream_info("S")
        assert info is not None
        assert follower.waiting <= 8
        assert await _next(follower, 30) == list(range(1, 31))


@pytest.mark.parametrize("fault", ["broker", "consumer"])
async def test_a_fault_ends_it(bus: Bus, nats_server: NatsServer, fault: str) -> None:
    """Whether the broker was started again or the consumer is gone; what follows begins anew."""
    await _fill(bus, 1, 3)
    async with bus.follow("S", "s.*", start_sequence=1, window=8) as follower:
        assert await _next(follower, 3) == [1, 2, 3]
        if fault == "broker":
            nats_server.restart()
        else:
            (consumer,) = [info["name"] async for info in bus.consumers("S")]
            await bus.delete_consumer("S", consumer)
        with pytest.raises(DependencyUnavailable, match="Failed to follow stream S: "):
            await _next(follower, 1)
    await _fill(bus, 4, 4)
    async with bus.follow("S", "s.*", start_sequence=4, window=8) as follower:
        assert await _next(follower, 1) == [4]

    async def nothing_is_left() -> bool:
        return not [info async for info in bus.consumers("S")]

    await eventually(nothing_is_left)


async def test_the_largest_message_is_no_obstacle(bus: Bus) -> None:
    """It comes, a little below the limit as its headers count, and so does what follows."""
    largest = 1024 * 1024 - 100
    await bus.append("s.a", b"x" * largest, expected_last=0)
    await bus.append("s.a", b"2", expected_last=1)
    async with bus.follow("S", "s.*", start_sequence=1, window=8) as follower:
        sizes: list[int] = []
        async with asyncio.timeout(60):
            while len(sizes) < 2:
                await follower.wait()
                sizes += [len(each.payload) for each in await follower.take()]
    assert sizes == [largest, 1]


async def test_a_stream_that_is_missing_cannot_be_followed(bus: Bus) -> None:
    """The caller is told at once."""
    with pytest.raises(DependencyUnavailable, match="follow stream NONE"):
        async with bus.follow("NONE", ">", start_sequence=1, window=8):
            pass
