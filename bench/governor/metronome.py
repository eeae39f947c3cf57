"""Begins things when they are due, to a tenth of a millisecond.

The timers of an event loop count in whole milliseconds: a large part of what is measured here.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final


def at_random(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Times from now on, in seconds: `rate` a second, each as likely as any other."""
    chance = random.Random(seed)
    due = 0.0
    while (due := due + chance.expovariate(rate)) < seconds:
        yield due


class Metronome:
    """A thread that waits for what is due next. For one event loop."""

    def __init__(self, begin: Callable[[float], None]) -> None:
        """`begin` is called in the event loop with the time that it was due, by `perf_counter`."""
        self._begin: Final = begin
        self._stop: Final = threading.Event()

    async def run(self, times: Iterator[float]) -> None:
        """Returns when all was begun; times are in seconds from now, in rising order."""
        loop = asyncio.get_running_loop()
        try:
            await asyncio.to_thread(self._beat, loop, times)
        finally:
            self._stop.set()

    def _beat(self, loop: asyncio.AbstractEventLoop, times: Iterator[float]) -> None:
        begun = time.perf_counter()
        for each in times:
            due = begun + each
            left = due - time.perf_counter()
            if left > 0 and self._stop.wait(left):
                return
            loop.call_soon_threadsafe(self._begin, due)
