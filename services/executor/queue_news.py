"""How an executor hears of tasks that wait: signals at once, and a look now and then."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

from meshkit.bus import Bus
from meshkit.errors import MeshError
from meshkit.time_limit import within
from tasklog import subjects
from tasklog.queues import Depth, Queues
from tasklog.subjects import Queue

_SWEEP_SECONDS: Final = 1.0
# Looking takes no more than a hundredth of the time where that is enough to hear of
# every task that is held before its claim can have run out.
_PAUSES_PER_SWEEP: Final = 100
_LONGEST_PAUSE_SECONDS: Final = 2.0
_LISTEN_AGAIN_SECONDS: Final = 1.0


class QueueNews:
    """Tells of queues. What a lost signal would have told, the next look does."""

    def __init__(self, bus: Bus, queues: Queues) -> None:
        self._bus = bus
        self._queues = queues
        self._look_now = asyncio.Event()

    def look_soon(self) -> None:
        """Has the next look happen at once: something was missed."""
        self._look_now.set()

    async def hear(self, wake: Callable[[Queue], None]) -> None:
        """Calls `wake` for each task that is stored, until cancelled."""
        known: dict[str, Queue] = {}

        def hear(subject: str) -> None:
            queue = known.get(subject)
            if queue is None:
                try:
                    queue = known[subject] = subjects.queue_of_wake(subject)
                except (ValueError, KeyError):
                    return  # anything may be said on a plain subject
            wake(queue)

        while True:
            try:
                wakes = await self._bus.listen(subjects.ALL_WAKES, hear, missed=self.look_soon)
                break
            except MeshError:
                await asyncio.sleep(_LISTEN_AGAIN_SECONDS)
        self.look_soon()
        try:
            await asyncio.Event().wait()
        finally:
            await wakes.close()

    async def look(self, begin: Callable[[], None], tell: Callable[[Queue, Depth], None]) -> None:
        """Calls `begin`, and `tell` for each queue, about every second until cancelled."""
        while True:
            self._look_now.clear()
            started = time.monotonic()
            with contextlib.suppress(MeshError):
                begin()
                async for queue, depth in self._queues.all():
                    tell(queue, depth)
            worth = (time.monotonic() - started) * _PAUSES_PER_SWEEP
            pause = min(max(_SWEEP_SECONDS, worth), _LONGEST_PAUSE_SECONDS)
            # Not wait_for: until Python 3.12 it takes no cancel that comes with what it waits for.
            with contextlib.suppress(TimeoutError), within(pause):
                await self._look_now.wait()
