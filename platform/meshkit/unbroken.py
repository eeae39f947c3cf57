"""What is done to its end, once it was begun, though nobody waits for it any more."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from meshkit.time_limit import within

T = TypeVar("T")

# Longer than the governor waits for its journal; what takes longer is repeated by its caller.
_END_SECONDS: Final = 5.0


class Unbroken:
    """Has work go on when who asked for it has gone. For one event loop."""

    def __init__(self, *, end_seconds: float = _END_SECONDS) -> None:
        """`end_seconds`: how long `close` waits."""
        # An event loop by itself may forget a task.
        self._under_way: Final[set[asyncio.Task[Any]]] = set()
        self._end_seconds: Final = end_seconds

    async def run(
        self,
        work: Coroutine[Any, Any, T],
        *,
        undo: Callable[[T], Coroutine[Any, Any, None]] | None = None,
    ) -> T:
        """What `work` gives. Who is cancelled meanwhile leaves it to go on by itself.

        `undo` is then done with what came of it.
        """
        task = self._begin(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if undo is not None and not task.cancelled():
                self._begin(_undone(task, undo))
            raise

    async def close(self) -> None:
        """Waits for what is under way; what takes too long is cancelled."""
        with suppress(TimeoutError), within(self._end_seconds):
            while self._under_way:
                await asyncio.wait(self._under_way)
        late = list(self._under_way)
        for task in late:
            task.cancel()
        # Nothing may use what is closed next.
        await asyncio.gather(*late, return_exceptions=True)

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            # Nobody may be there any more to take what it failed with.
            task.exception()


async def _undone(task: asyncio.Task[T], undo: Callable[[T], Coroutine[Any, Any, None]]) -> None:
    await undo(await task)
