"""A fault at the worst moment: an effect has happened, and nobody has recorded it yet."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from meshtest.eventually import eventually
from tests.faults.fault import Action, Fault
from tests.faults.fault_mesh import FaultMesh
from tests.faults.outside import Effect

Until = Callable[[str], Awaitable[bool]]
# Time for an effect to come by, and for a process to start again.
_SPRINGS_WITHIN_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Trap:
    """What becomes of the executor that makes a call."""

    action: Action
    # Seconds until it is undone, at least.
    lasts: float
    # How often it springs.
    times: int
    # The only calculation on which it springs, such as `6 * 7`; empty for any.
    expression: str = ""
    # Whether the call is never answered, so that the next attempt makes it again.
    silent: bool = False


class Sprung:
    """Where a trap has sprung, and when."""

    def __init__(self, mesh: FaultMesh, trap: Trap, until: Until | None) -> None:
        """Made by `laid` alone."""
        self._mesh: Final = mesh
        self._trap: Final = trap
        self._until: Final = until
        self._healing: asyncio.Task[None] | None = None
        self._sprung_out: Final = asyncio.Event()
        # The effect, and the wall clock's seconds when its executor was hurt.
        self.at: Final[list[tuple[Effect, float]]] = []

    async def on_effect(self, effect: Effect) -> None:
        """Springs, perhaps."""
        trap = self._trap
        if trap.expression not in ("", effect.expression) or len(self.at) == trap.times:
            return
        if self._healing is not None and not self._healing.done():
            # One at a time: somebody must be left to go on. Any effect will do later, but where
            # it has to be this one it waits.
            if not trap.expression:
                return
            await asyncio.wait([self._healing])
        begun = asyncio.Event()
        self._healing = asyncio.create_task(self._spring(effect, begun))
        await begun.wait()
        if trap.silent:
            await asyncio.Event().wait()

    async def healed(self) -> None:
        """Returns when it has sprung as often as it may, and everybody is well again."""
        seconds = self._trap.times * (self._trap.lasts + 2 * _SPRINGS_WITHIN_SECONDS)
        async with asyncio.timeout(seconds):
            await self._sprung_out.wait()

    async def _spring(self, effect: Effect, begun: asyncio.Event) -> None:
        trap = self._trap
        caller = self._mesh.caller(effect.caller_port)
        fault = Fault(caller, trap.action, after=0.0, lasts=trap.lasts)
        self.at.append((effect, time.time()))
        await self._mesh.hurt(fault)
        begun.set()
        await asyncio.sleep(trap.lasts)
        if self._until is not None:
            await eventually(partial(self._until, effect.task_id), _SPRINGS_WITHIN_SECONDS)
        await self._mesh.heal(fault)
        if len(self.at) == trap.times:
            self._sprung_out.set()


@asynccontextmanager
async def laid(
    mesh: FaultMesh, trap: Trap, *, until: Until | None = None
) -> AsyncGenerator[Sprung]:
    """Lays a trap; at the end of the block it has sprung as often as it may.

    Where that is given, nobody is well again `until` it is true of the task with that id.
    """
    sprung = Sprung(mesh, trap, until)
    mesh.outside.on_effect = sprung.on_effect
    try:
        yield sprung
        await sprung.healed()
    finally:
        mesh.outside.on_effect = None
