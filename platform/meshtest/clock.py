"""Clocks for tests: one that only the test moves, and one that begins when it says."""

import asyncio
import heapq
from datetime import UTC, datetime, timedelta
from typing import Final

_START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """Stands still until `advance`; starts at 2026-01-01 00:00 UTC."""

    def __init__(self, start: datetime = _START) -> None:
        self._start: Final = start
        self._elapsed_seconds = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> datetime:
        """The time of day, in UTC."""
        return self._start + timedelta(seconds=self._elapsed_seconds)

    def monotonic_seconds(self) -> float:
        """Seconds that the test has let pass."""
        return self._elapsed_seconds

    async def sleep(self, seconds: float) -> None:
        """Returns when the test has advanced the clock that far."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._elapsed_seconds + seconds, self._count, waiter))
        await waiter

    @property
    def sleeping(self) -> int:
        """How many wait for this clock."""
        return sum(not waiter.done() for _, _, waiter in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Lets that much time pass; who sleeps wakes in order and runs."""
        end = self._elapsed_seconds + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            self._elapsed_seconds, _, waiter = heapq.heappop(self._sleepers)
            if not waiter.done():
                waiter.set_result(None)
            await self._settle()
        self._elapsed_seconds = end
        await self._settle()

    async def _settle(self) -> None:
        # Enough turns of the loop for who was woken to reach the next wait.
        for _ in range(20):
            await asyncio.sleep(0)


class RunningClock:
    """Runs as fast as the machine's, from another time on. Made within an event loop."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._begun: Final = asyncio.get_running_loop().time()

    def now(self) -> datetime:
        """The time of day, in UTC."""
        return self._start + timedelta(seconds=self.monotonic_seconds())

    def monotonic_seconds(self) -> float:
        """Seconds that have passed."""
        return asyncio.get_running_loop().time() - self._begun

    async def sleep(self, seconds: float) -> None:
        """Returns after that many seconds."""
        await asyncio.sleep(seconds)

    def move_to(self, now: datetime) -> None:
        """Goes on from that time of day, while the seconds that have passed stay."""
        self._start = now - timedelta(seconds=self.monotonic_seconds())
