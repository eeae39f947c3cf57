"""How many calls are made at a time; the next ones wait, and no more than so many."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

from meshkit.time_limit import within


class InFlight:
    """The places of one endpoint in this process."""

    def __init__(self, places: int) -> None:
        """As many calls as there are places may wait for one."""
        self._places: Final = places
        self._taken = 0
        self._waiting: Final[deque[asyncio.Future[None]]] = deque()

    @property
    def full(self) -> bool:
        """Whether no more can wait."""
        return len(self._waiting) >= self._places

    async def enter(self, patience_seconds: float) -> bool:
        """Whether there was a place within that time; it is left with `leave`."""
        if self._taken < self._places:
            self._taken += 1
            return True
        if self.full:
            return False
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            with within(patience_seconds):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                # It was handed over at the last moment.
                if isinstance(error, TimeoutError):
                    return True
                self.leave()
                raise
            with suppress(ValueError):
                self._waiting.remove(place)
            if isinstance(error, TimeoutError):
                return False
            raise
        return True

    def leave(self) -> None:
        """Hands the place to who waited longest."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():  # else whoever waited has just left
                place.set_result(None)
                return
        self._taken -= 1
