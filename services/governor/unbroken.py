"""What is done to its end, once it was begun, though nobody waits for it any more."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

# Longer than a settlement waits for the journal; what takes longer is repeated by its caller.
_END_SECONDS: Final = 5.0


class Unbroken:
    """Has work go on when who asked for it has gone. For one event loop."""

    def __init__(self, *, end_seconds: float = _END_SECONDS) -> None:
        """`end_seconds`: how long `close` waits."""
        # An event loop by itself may forget a task.
        self._under_way: Final[set[asyncio.Task[Any]]] = set()
        self._end_seconds: Final = end_seconds

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives. Who is cancelled meanwhile leaves it to go on by itself."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._end)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Waits for what is under way; what takes too long is cancelled."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=self._end_seconds)
            for task in late:
                task.cancel()
            # Nothing may use what is closed next.
            await asyncio.gather(*late, return_exceptions=True)

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            # Nobody may be there any more to take what it failed with.
            task.exception()
