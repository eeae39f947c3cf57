"""Loads of the benchmark: nothing that was slow is left out."""

import asyncio
import time
from collections.abc import Callable

from bench.gateway.loops import at_once, at_rate, streams


async def test_a_call_that_could_not_be_made_in_time_waits_from_when_it_was_due() -> None:
    """A system that stands still for a while delays all calls that fall into it."""
    lane, numbers = asyncio.Lock(), iter(range(10_000))

    async def call() -> None:
        async with lane:
            await asyncio.sleep(0.3 if next(numbers) == 0 else 0)

    taken = await at_rate(call, rate=200, seconds=0.4, seed=1)
    # Calls were due throughout the 300 ms: half of them waited for half of it.
    assert taken.latencies.percentile_ms(50) > 50
    assert taken.latencies.count > 40
    assert not taken.errors


async def test_calls_at_a_rate_come_at_that_rate_whatever_becomes_of_them() -> None:
    """Those that are slow run beside each other."""
    flying: list[int] = []
    most = 0

    async def call() -> None:
        nonlocal most
        flying.append(1)
        most = max(most, len(flying))
        await asyncio.sleep(0.2)
        flying.pop()

    taken = await at_rate(call, rate=100, seconds=0.5, seed=1)
    assert 25 <= taken.latencies.count <= 85
    assert most > 5


async def test_so_many_are_in_flight_and_no_more() -> None:
    """Each call is followed by the next."""
    flying: list[int] = []
    most = 0

    async def call() -> None:
        nonlocal most
        flying.append(1)
        most = max(most, len(flying))
        await asyncio.sleep(0.02)
        flying.pop()

    taken = await at_once(call, in_flight=4, seconds=1)
    assert most == 4
    assert taken.latencies.count >= 8
    assert taken.seconds >= 1


async def test_what_fails_is_counted_and_has_no_latency() -> None:
    """By what it said."""

    async def call() -> None:
        await asyncio.sleep(0.01)
        raise ValueError("no")

    taken = await at_once(call, in_flight=1, seconds=0.03)
    assert taken.latencies.count == 0
    assert list(taken.errors) == ["ValueError: no"]


async def test_of_a_stream_the_time_to_its_first_piece_counts() -> None:
    """Not that to its end."""

    whole: list[float] = []

    async def stream(first: Callable[[], None]) -> None:
        begun = time.perf_counter()
        await asyncio.sleep(0.01)
        first()
        await asyncio.sleep(0.5)
        whole.append(time.perf_counter() - begun)

    taken = await streams(stream, seconds=0.1)
    assert taken.latencies.count == len(whole) >= 1
    assert 10 <= taken.latencies.percentile_ms(50) < min(whole) * 1000
