"""Load on a system: at a steady rate, so many at a time, or one stream after the other."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bench.tasks.latencies import Latencies

Call = Callable[[], Awaitable[None]]
# Makes a stream, and calls what it is given at the first piece of text.
Stream = Callable[[Callable[[], None]], Awaitable[None]]


@dataclass(slots=True)
class Taken:
    """What came of a time of calling."""

    latencies: Latencies = field(default_factory=Latencies)
    seconds: float = 0.0
    # By their text.
    errors: Counter[str] = field(default_factory=Counter[str])


async def at_rate(call: Call, *, rate: float, seconds: float, seed: int) -> Taken:
    """`rate` calls a second at random distances, whatever became of those before.

    A latency counts from when the call was due, so that nothing is left out where a call
    could not be made in time.
    """
    taken, chance = Taken(), random.Random(seed)

    async def one(due: float) -> None:
        if await _counted(call, taken):
            taken.latencies.record(time.perf_counter() - due)

    begun = due = time.perf_counter()
    async with asyncio.TaskGroup() as calls:
        while (due := due + chance.expovariate(rate)) < begun + seconds:
            await asyncio.sleep(due - time.perf_counter())
            calls.create_task(one(due))
    taken.seconds = time.perf_counter() - begun
    return taken


async def at_once(call: Call, *, in_flight: int, seconds: float) -> Taken:
    """So many calls at a time, each followed by the next."""
    taken = Taken()
    begun = time.perf_counter()

    async def caller() -> None:
        while (now := time.perf_counter()) < begun + seconds:
            if await _counted(call, taken):
                taken.latencies.record(time.perf_counter() - now)

    async with asyncio.TaskGroup() as callers:
        for _ in range(in_flight):
            callers.create_task(caller())
    taken.seconds = time.perf_counter() - begun
    return taken


async def streams(stream: Stream, *, seconds: float) -> Taken:
    """One stream after the other; what counts is the time to the first piece of text."""
    taken = Taken()
    begun = time.perf_counter()
    while (now := time.perf_counter()) < begun + seconds:

        def first(now: float = now) -> None:
            taken.latencies.record(time.perf_counter() - now)

        await _counted(lambda first=first: stream(first), taken)
    taken.seconds = time.perf_counter() - begun
    return taken


async def _counted(call: Call, taken: Taken) -> bool:
    """Whether the call went well; what went wrong otherwise is counted."""
    try:
        await call()
    except Exception as error:
        taken.errors[f"{type(error).__name__}: {error}"[:200]] += 1
        return False
    return True
