"""Begins counters that are not there with what the ledger has for them."""

import asyncio
import contextlib
from collections.abc import Iterable
from datetime import datetime
from typing import Final, Protocol

from meshkit.clock import Clock
from meshkit.errors import MeshError, QueueFull
from services.governor.account import Balance, Counter, Counters
from services.governor.budget import Scope

# At a time. A ledger answers one after the other anyway.
_MOST_OPENING: Final = 16
_MOST_WAITING: Final = 10_000
_AGAIN_SECONDS: Final = 1.0
# An era seldom ends; another one has to be asked about anew.
_ERAS: Final = 3


class Balances(Protocol):
    """What the ledger has."""

    async def balance(self, scope: Scope, start: datetime, end: datetime | None) -> Balance:
        """What was settled for a scope from `start` until before `end`.

        Answers when the ledger has all that the journal had when it was asked.
        Raises DependencyUnavailable where that takes too long.
        """
        ...


class Openings:
    """Opens each counter once, however many wait for it. Safe to share within one event loop."""

    def __init__(self, counters: Counters, balances: Balances, clock: Clock) -> None:
        self._counters: Final = counters
        self._balances: Final = balances
        self._clock: Final = clock
        self._turns: Final = asyncio.Semaphore(_MOST_OPENING)
        # By its id, and by the word on its budget.
        self._opening: Final[dict[tuple[str, int], asyncio.Task[None]]] = {}
        self._wanted: Final[dict[str, Counter]] = {}
        self._wake: Final = asyncio.Event()

    async def open(self, counters: Iterable[Counter]) -> None:
        """Returns when all of these are there.

        Raises DependencyUnavailable, and QueueFull where too many wait already.
        """
        # Who gives up does not take it from the others.
        await asyncio.gather(*(asyncio.shield(self._start(each)) for each in counters))

    def want(self, counters: Iterable[Counter]) -> None:
        """Has these opened soon, by `run`; nobody waits for it."""
        for each in counters:
            # What finds no place here is opened by whoever reads or reserves next.
            if len(self._wanted) < _MOST_WAITING:
                self._wanted[each.id] = each
        self._wake.set()

    async def run(self) -> None:
        """Opens what is wanted, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._wanted:
                _, counter = self._wanted.popitem()
                try:
                    await self.open([counter])
                except MeshError:
                    self.want([counter])
                    await self._clock.sleep(_AGAIN_SECONDS)

    async def close(self) -> None:
        """Ends what is under way."""
        for task in list(self._opening.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, MeshError):
                await task

    def _start(self, counter: Counter) -> asyncio.Task[None]:
        key = counter.id, counter.written
        task = self._opening.get(key)
        if task is None:
            if len(self._opening) >= _MOST_WAITING:
                raise QueueFull(
                    f"{len(self._opening)} counters wait for the ledger already.",
                    retry_after_seconds=_AGAIN_SECONDS,
                )
            task = self._opening[key] = asyncio.create_task(self._open(counter))
            task.add_done_callback(lambda ended: self._end(key, ended))
        return task

    def _end(self, key: tuple[str, int], task: asyncio.Task[None]) -> None:
        del self._opening[key]
        if not task.cancelled():
            # Whoever waited may have given up: then nobody is told.
            task.exception()

    async def _open(self, counter: Counter) -> None:
        async with self._turns:
            window = counter.window
            for _ in range(_ERAS):
                era = self._counters.era
                balance = await self._balances.balance(
                    counter.budget.scope, window.start, window.end
                )
                if await self._counters.open(counter, balance, era):
                    return
