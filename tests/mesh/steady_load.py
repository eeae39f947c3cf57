"""Calls at a steady pace, whether answers come or not, and what became of each."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import grpc

from tests.mesh.behaviour import INSTANCE_KEY


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call."""

    took_seconds: float
    # Which instance answered; empty where the call failed.
    instance: str
    # Of what failed: the status, and what was said.
    failure: str = ""


@dataclass
class Load:
    """All calls that have ended so far."""

    outcomes: list[Outcome] = field(default_factory=list[Outcome])

    @property
    def failures(self) -> list[Outcome]:
        """What was not answered."""
        return [each for each in self.outcomes if each.failure]

    def shares(self, last: int) -> dict[str, float]:
        """Who answered the last so many calls that were answered, in parts of one."""
        answered = [each.instance for each in self.outcomes if each.instance][-last:]
        return {name: count / len(answered) for name, count in Counter(answered).items()}

    def last_are_answered(self, count: int) -> bool:
        """Whether so many calls that ended one after the other were answered, up to now."""
        last = self.outcomes[-count:]
        return len(last) == count and not any(each.failure for each in last)


@asynccontextmanager
async def steady(call: Callable[[int], Any], *, per_second: float) -> AsyncGenerator[Load]:
    """Calls inside the block, with a number each; after it each call has ended."""
    load = Load()
    enough = asyncio.Event()
    calling = asyncio.create_task(_call(call, load, per_second, enough))
    try:
        yield load
        enough.set()
        await calling
    finally:
        calling.cancel()
        await asyncio.wait([calling])


async def _call(
    call: Callable[[int], Any], load: Load, per_second: float, enough: asyncio.Event
) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    number = 0
    async with asyncio.TaskGroup() as group:
        while not enough.is_set():
            number += 1
            group.create_task(_one(call(number), load))
            # What a busy machine was late with is not made up for: that would be a burst.
            due = max(due + 1 / per_second, loop.time() - 0.1)
            await asyncio.sleep(due - loop.time())


async def _one(call: Any, load: Load) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        await call
        said = cast(dict[str, str], dict(await call.trailing_metadata()))
        instance, failure = said[INSTANCE_KEY], ""
    except grpc.aio.AioRpcError as error:
        instance, failure = "", f"{error.code().name}: {error.details()}"
    load.outcomes.append(Outcome(loop.time() - begun, instance, failure))
