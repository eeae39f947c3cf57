"""Watches children that come and go."""

import asyncio
from collections.abc import Callable
from typing import Final

from tier.child import Child


class Watchers:
    """Starts each child again when it dies, for as long as it is among them."""

    def __init__(self) -> None:
        self._tasks: Final[dict[Child, asyncio.Task[None]]] = {}
        self._on_change: Callable[[], None] | None = None
        self._changed: Final = asyncio.Event()

    def add(self, child: Child) -> None:
        """Watches a child, too, as soon as `run` does."""
        if self._on_change is not None:
            self._tasks[child] = asyncio.create_task(child.watch(self._on_change))
            self._changed.set()

    def tell(self) -> None:
        """Says that children have come or gone."""
        if self._on_change is not None:
            self._on_change()

    async def remove(self, child: Child) -> None:
        """Watches it no more."""
        task = self._tasks.pop(child, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def run(self, children: list[Child], on_change: Callable[[], None]) -> None:
        """Watches these, and whoever is added, for ever; raises what the first one fails with."""
        self._on_change = on_change
        for each in children:
            self.add(each)
        changed = asyncio.create_task(self._changed.wait())
        try:
            while True:
                done, _ = await asyncio.wait(
                    [*self._tasks.values(), changed], return_when=asyncio.FIRST_COMPLETED
                )
                if changed in done:
                    self._changed.clear()
                    changed = asyncio.create_task(self._changed.wait())
                for each in done & set(self._tasks.values()):
                    each.result()
        finally:
            self._on_change = None
            left = [changed, *self._tasks.values()]
            for each in left:
                each.cancel()
            await asyncio.wait(left)
            self._tasks.clear()
