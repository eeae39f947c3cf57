"""Settles what need not, or cannot, be settled while a caller waits."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from meshkit.clock import Clock
from meshkit.errors import Internal, MeshError, is_retryable
from meshkit.log import Log
from services.reasoning.generation import Spending
from services.reasoning.governor import Governor, Settlement

# As many go together as the governor takes in one batch.
_TOGETHER: Final = 256
_FIRST_WAIT_SECONDS: Final = 0.1
_LONGEST_WAIT_SECONDS: Final = 5.0

# A Spending stands for a reservation to be released.
Item = Settlement | Spending


class SettlementStore(Protocol):
    """Keeps settlements beyond the life of the process."""

    def take_over(self) -> Sequence[Settlement]:
        """What processes that are gone have left; it is kept here from now on."""
        ...

    def add(self, settlement: Settlement) -> None:
        """Keeps a settlement. Raises OSError where there is no room for it."""
        ...

    def clear(self) -> None:
        """Forgets all: they are settled."""
        ...


class SettlementQueue:
    """A bounded queue that is worked off in the background, in batches, until it succeeds."""

    def __init__(
        self,
        governor: Governor,
        store: SettlementStore,
        *,
        clock: Clock,
        log: Log,
        size: int,
        drain_seconds: float,
    ) -> None:
        """`size` bounds it; at the end it has `drain_seconds` for what is left."""
        self._governor: Final = governor
        self._store: Final = store
        self._clock: Final = clock
        self._log: Final = log
        self._size: Final = size
        self._drain_seconds: Final = drain_seconds
        self._items: Final[deque[Item]] = deque()
        self._filled: Final = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether nothing new should be begun that must be settled later."""
        return len(self._items) >= self._size

    def put(self, item: Item) -> None:
        """Adds what must be settled.

        Look at `full` before a call is begun, not here: what was spent is
        never forgotten, so that calls in flight may pass the bound.
        """
        self._items.append(item)
        self._filled.set()

    def put_due(self, settlement: Settlement) -> None:
        """As `put`, for what was paid: the next process settles it where this one dies."""
        try:
            self._store.add(settlement)
        except OSError as error:
            self._log.error("settlement.unkept", cause=str(error))
        self.put(settlement)

    async def run(self) -> None:
        """Works the queue off until cancelled, then for as long as it may drain."""
        for each in self._store.take_over():
            self.put(each)
        try:
            while True:
                await self._filled.wait()
                await self._work_off()
        finally:
            await self._drain()

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._drain_seconds):
                await self._work_off()
        except TimeoutError:
            # What was paid is in the store, for the next process.
            self._log.error("settlements.left", count=len(self._items))

    async def _work_off(self) -> None:
        wait = _FIRST_WAIT_SECONDS
        while self._items:
            # Left in the queue until done: whoever is cancelled here loses none.
            batch = [self._items[index] for index in range(min(_TOGETHER, len(self._items)))]
            again = [each for each in await asyncio.gather(*map(self._settle, batch)) if each]
            for _ in batch:
                self._items.popleft()
            # Last, so that those which fail every time keep none from their turn.
            self._items.extend(again)
            if again:
                await self._clock.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
            else:
                wait = _FIRST_WAIT_SECONDS
        self._store.clear()
        self._filled.clear()

    async def _settle(self, item: Item) -> Item | None:
        """The item again where it should be tried again, else None."""
        try:
            if isinstance(item, Settlement):
                await self._governor.settle(item)
            else:
                await self._governor.release(item)
        except MeshError as error:
            # A fault of the governor, or of the way to it, says nothing against the item.
            if is_retryable(error) or isinstance(error, Internal):
                return item
            self._log.error("settlement.refused", reason=error.reason, message=error.message)
        return None
