"""Things begin when they are due: none too early, and none twice."""

import asyncio
import time
from itertools import pairwise

import pytest

from bench.governor.metronome import Metronome, at_random


def test_random_times_rise_and_are_as_many_as_the_rate_says() -> None:
    """The same again for the same seed."""
    times = list(at_random(1_000, 20, seed=7))
    assert times == list(at_random(1_000, 20, seed=7))
    assert all(one < other for one, other in pairwise(times))
    assert times[0] > 0
    assert times[-1] < 20
    assert 19_000 < len(times) < 21_000


async def test_each_is_begun_once_and_never_before_it_is_due() -> None:
    """In the event loop, with the time at which it was due."""
    begun: list[tuple[float, float]] = []
    await Metronome(lambda due: begun.append((due, time.perf_counter()))).run(
        iter([0.0, 0.001, 0.001, 0.004])
    )
    assert len(begun) == 4
    assert all(due <= now for due, now in begun)
    first = begun[0][0]
    assert [round(due - first, 6) for due, _ in begun] == [0.0, 0.001, 0.001, 0.004]


async def test_who_is_cancelled_begins_no_more() -> None:
    """Its thread does not wait for what is due much later."""
    begun: list[float] = []
    first = asyncio.Event()

    def begin(due: float) -> None:
        begun.append(due)
        first.set()

    beating = asyncio.create_task(Metronome(begin).run(iter([0.0, 3600.0])))
    async with asyncio.timeout(30):
        await first.wait()
        beating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await beating
        # Returns when the thread has ended.
        await asyncio.get_running_loop().shutdown_default_executor()
    assert len(begun) == 1
