"""Settles what need not, or cannot, be settled while a caller waits."""

import asyncio
import re
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, count
from typing import Final, Protocol

from meshkit.clock import Clock
from meshkit.errors import AlreadySettled, Internal, MeshError, is_retryable
from meshkit.ids import stable_id
from meshkit.log import Log
from meshkit.time_limit import within
from services.reasoning.generation import Spending
from services.reasoning.governor import Governor, Settlement

# As many go together as the governor takes in one batch.
_TOGETHER: Final = 256
_FIRST_WAIT_SECONDS: Final = 0.1
_LONGEST_WAIT_SECONDS: Final = 5.0
# How often it looks for what processes left that nobody starts again.
_TAKE_OVER_SECONDS: Final = 30.0
_MOST_KEY_CHARACTERS: Final = 200
_ID_CHARACTERS: Final = 26
# Names of models are as long, and hold a dash.
_ID: Final = re.compile(r"[0-9a-hjkmnp-tv-z]{26}")

# A Spending stands for a reservation to be released.
Item = Settlement | Spending


class SettlementStore(Protocol):
    """Keeps settlements beyond the life of the process."""

    @property
    def is_large(self) -> bool:
        """Whether `replace` is worth its while."""
        ...

    def take_over(self) -> Iterator[Settlement]:
        """What processes that are gone have left; each is kept here from when it is given.

        Raises OSError at the end, where some of it could not be taken over: it stays.
        """
        ...

    def add(self, settlement: Settlement) -> None:
        """Keeps a settlement. Raises OSError where there is no room for it."""
        ...

    def refuse(self, settlement: Settlement, error: MeshError) -> None:
        """Keeps what the governor does not take, and why. Raises OSError for want of room."""
        ...

    def clear(self) -> None:
        """Forgets all: they are settled, or refused."""
        ...

    def replace(self, settlements: Iterable[Settlement]) -> None:
        """Forgets all but these. Raises OSError where there is no room for it."""
        ...


class Listener(Protocol):
    """Is told what becomes of settlements."""

    def settled(self, settlement: Settlement) -> None:
        """The governor knows it."""
        ...

    def refused(self, settlement: Settlement) -> None:
        """The governor does not take it, whoever repeats it."""
        ...


class SettlementQueue:
    """A bounded queue that is worked off in the background, in batches, until it succeeds."""

    def __init__(
        self,
        governor: Governor,
        store: SettlementStore,
        listener: Listener,
        *,
        clock: Clock,
        log: Log,
        size: int,
        together_seconds: float,
        drain_seconds: float,
    ) -> None:
        """`size` bounds it; at the end it has `drain_seconds` for what is left.

        What comes within `together_seconds` goes together.
        """
        self._governor: Final = governor
        self._store: Final = store
        self._listener: Final = listener
        self._clock: Final = clock
        self._log: Final = log
        self._size: Final = size
        self._together_seconds: Final = together_seconds
        self._drain_seconds: Final = drain_seconds
        self._items: Final[deque[Item]] = deque()
        # Settled by whoever made the call, by a number of its own.
        self._under_way: Final[dict[int, Settlement]] = {}
        self._numbers: Final = count()
        self._filled: Final = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether nothing new should be begun that must be settled later."""
        return len(self._items) >= self._size

    def settle(self, settlement: Settlement) -> None:
        """Adds a call that was made: another process settles it where this one dies.

        Look at `full` before a call is begun, not here: what was spent is
        never forgotten, so that calls in flight may pass the bound.
        """
        self._keep(settlement)
        self._put(settlement)

    @contextmanager
    def kept(self, settlement: Settlement) -> Generator[None]:
        """Keeps a call that is settled meanwhile; another process does it where this one dies."""
        self._keep(settlement)
        number = next(self._numbers)
        self._under_way[number] = settlement
        try:
            yield
        finally:
            del self._under_way[number]
            if not self._items and not self._under_way:
                self._store.clear()
            elif self._store.is_large:
                self._shorten()

    def release(self, spending: Spending) -> None:
        """Adds a reservation that is not needed. Where the process dies it expires."""
        self._put(spending)

    async def run(self) -> None:
        """Works the queue off until cancelled, then for as long as it may drain."""
        try:
            while True:
                await self._filled.wait()
                await self._clock.sleep(self._together_seconds)
                await self._work_off()
        finally:
            await self._drain()

    async def take_over(self) -> None:
        """Adds what processes that are gone have left, now and from time to time."""
        while True:
            try:
                for each in self._store.take_over():
                    self._put(each)
            except OSError as error:
                # It stays where it is, for the next time or for somebody else.
                self._log.error("settlements.untaken", cause=str(error))
            await self._clock.sleep(_TAKE_OVER_SECONDS)

    def _keep(self, settlement: Settlement) -> None:
        try:
            self._store.add(settlement)
        except OSError as error:
            self._log.error("settlement.unkept", cause=str(error))

    def _put(self, item: Item) -> None:
        self._items.append(item)
        self._filled.set()

    async def _drain(self) -> None:
        try:
            with within(self._drain_seconds):
                await self._work_off()
                while self._items:
                    await self._work_off()
        except TimeoutError:
            # What was paid is in the store, for another process.
            self._log.error("settlements.left", count=len(self._items))

    async def _work_off(self) -> None:
        """Settles what waits now.

        What comes meanwhile goes with the next ones: sent at once, each would have a message to
        itself, since a busy process always has another one by the time that one is answered.
        """
        wait = _FIRST_WAIT_SECONDS
        left = len(self._items)
        while left:
            # Left in the queue until done: whoever is cancelled here loses none.
            batch = [self._items[index] for index in range(min(_TOGETHER, left))]
            again = await self._send(batch)
            for _ in batch:
                self._items.popleft()
            # Last, so that those which fail every time keep none from their turn.
            self._items.extend(again)
            left += len(again) - len(batch)
            if len(again) == len(batch):
                await self._clock.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
                left = len(self._items)
            else:
                wait = _FIRST_WAIT_SECONDS
            if self._store.is_large:
                self._shorten()
        if self._items:
            return
        if not self._under_way:
            self._store.clear()
        self._filled.clear()

    def _shorten(self) -> None:
        try:
            queued = (each for each in self._items if isinstance(each, Settlement))
            self._store.replace(chain(self._under_way.values(), queued))
        except OSError as error:
            # What is in it already stays.
            self._log.error("settlements.unshortened", cause=str(error))

    async def _send(self, batch: Sequence[Item]) -> list[Item]:
        """The items that should be tried again."""
        settlements = [each for each in batch if isinstance(each, Settlement)]
        releases = [each for each in batch if not isinstance(each, Settlement)]
        again = [each for each in await asyncio.gather(*map(self._release, releases)) if each]
        return [*again, *await self._settle(settlements)] if settlements else [*again]

    async def _settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        try:
            outcomes = await self._governor.settle_all(settlements)
        except MeshError:
            return [*settlements]
        again: list[Settlement] = []
        for settlement, error in zip(settlements, outcomes, strict=True):
            if error is None:
                self._listener.settled(settlement)
            elif _is_worth_repeating(error):
                again.append(settlement)
            else:
                again += self._refused(settlement, error)
        return again

    def _refused(self, settlement: Settlement, error: MeshError) -> list[Settlement]:
        if _names_unknown_prices(settlement, error):
            return [replace(settlement, price_version="")]
        # Another process made a call with this key: this one was paid besides.
        if isinstance(error, AlreadySettled) and (besides := _besides(settlement)) is not None:
            return [besides]
        self._listener.refused(settlement)
        self._log.error(
            "settlement.refused",
            tenant=settlement.spending.tenant,
            key=settlement.spending.key,
            reason=error.reason,
            message=error.message,
        )
        try:
            self._store.refuse(settlement, error)
        except OSError as cause:
            self._log.error("settlement.unkept", cause=str(cause))
        return []

    async def _release(self, spending: Spending) -> Spending | None:
        """The spending again where it should be tried again, else None."""
        try:
            await self._governor.release(spending)
        except MeshError as error:
            if _is_worth_repeating(error):
                return spending
            self._log.error("settlement.refused", reason=error.reason, message=error.message)
        return None


def _is_worth_repeating(error: MeshError) -> bool:
    # A fault of the governor, or of the way to it, says nothing against the item.
    return is_retryable(error) or isinstance(error, Internal)


def _names_unknown_prices(settlement: Settlement, error: MeshError) -> bool:
    # A version may be gone from the book, or not be in it yet: the present prices hold then.
    return bool(settlement.price_version) and any(
        each.field == "price_version" for each in error.violations
    )


def _besides(settlement: Settlement) -> Settlement | None:
    """The settlement under a key of its own, the same every time; None where it has one."""
    spending = settlement.spending
    if _ID.fullmatch(spending.key.rpartition("#")[2]):
        return None
    own = stable_id(
        spending.tenant,
        spending.key,
        str(settlement.input_tokens),
        str(settlement.output_tokens),
        str(settlement.call_time_ms),
    )
    key = f"{spending.key[: _MOST_KEY_CHARACTERS - 1 - _ID_CHARACTERS]}#{own}"
    return replace(settlement, spending=replace(spending, key=key))
