"""What is done to its end, once it was begun, though nobody waits for it any more."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")


class Unbroken:
    """Has work go on when who asked for it has gone. For one event loop."""

    def __init__(self) -> None:
        # An event loop by itself may forget a task.
        self._under_way: Final[set[asyncio.Task[Any]]] = set()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives. Who is cancelled meanwhile leaves it to go on by itself."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._end)
        return await asyncio.shield(task)

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            # Nobody may be there any more to take what it failed with.
            task.exception()
