"""A ledger for questions that may take long: one after the other.

A database reads in few threads, and counters that are to be opened wait for them.
"""

import asyncio
from typing import Final, TypeVar

from sqlstore.database import Readable, Work

T = TypeVar("T")


class InTurns:
    """Reads once at a time. Safe to share within one event loop."""

    def __init__(self, database: Readable) -> None:
        self._database: Final = database
        self._turn: Final = asyncio.Semaphore(1)

    async def read(self, work: Work[T]) -> T:
        """What `work` finds.

        Who gives up meanwhile leaves its turn to the next when the database is done.
        """
        await self._turn.acquire()
        reading = asyncio.ensure_future(self._database.read(work))
        reading.add_done_callback(self._end)
        return await asyncio.shield(reading)

    def _end(self, reading: asyncio.Future[T]) -> None:
        self._turn.release()
        if not reading.cancelled():
            # Nobody may be there any more to take what it failed with.
            reading.exception()
