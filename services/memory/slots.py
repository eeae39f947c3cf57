"""A bound on how much is done at once, and on how much waits for it."""

import asyncio
from types import TracebackType
from typing import Final

from meshkit.errors import QueueFull

_RETRY_SECONDS: Final = 1.0


class Slots:
    """`async with slots:` waits for one of `active` slots; QueueFull where too many wait."""

    def __init__(self, what: str, *, active: int, waiting: int) -> None:
        """`what` is done in a slot, such as "searches", for the error."""
        self._what: Final = what
        self._free: Final = asyncio.Semaphore(active)
        self._limit: Final = active + waiting
        self._count = 0

    async def __aenter__(self) -> None:
        if self._count >= self._limit:
            raise QueueFull(
                f"Too many {self._what} wait already ({self._limit}); try again later.",
                retry_after_seconds=_RETRY_SECONDS,
            )
        self._count += 1
        try:
            await self._free.acquire()
        except BaseException:
            self._count -= 1
            raise

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._count -= 1
        self._free.release()
