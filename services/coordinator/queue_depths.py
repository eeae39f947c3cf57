"""How the lanes of all tenants stand, without asking the broker for every task."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from agentmesh.common.v1 import tier_pb2
from meshkit.clock import Clock
from meshkit.errors import MeshError
from meshkit.time_limit import within
from tasklog.queues import NO_DEPTH, Depth
from tasklog.subjects import Queue

# Nobody reads a look that is older.
_KEPT_SECONDS: Final = 1.0
# From this age on the next look is taken while the last one is still read, so
# that under steady load nobody waits for one.
_EARLY_SECONDS: Final = 0.5
# How long a reader waits for a look. Without one the last that there was must
# do: a broker that cannot answer this cannot store a task either.
_PATIENCE_SECONDS: Final = 2.0

# A tenant's part of a lane, of whatever priority.
Line = tuple[str, tier_pb2.Lane]


class Source(Protocol):
    """Knows every queue."""

    def all(self) -> AsyncIterator[tuple[Queue, Depth]]: ...


@dataclass(frozen=True, slots=True)
class Look:
    """How all lines stood at one moment."""

    # Of a monotonic clock; when the look began.
    at_seconds: float
    lines: Mapping[Line, Depth] = field(default_factory=dict[Line, Depth])

    def line(self, tenant: str, lane: tier_pb2.Lane) -> Depth:
        """How one tenant's part of a lane stood."""
        return self.lines.get((tenant, lane), NO_DEPTH)


class QueueDepths:
    """Looks at all queues at most twice a second, and only while somebody asks.

    What this process accepted since the last look is counted on top. What other
    coordinators accepted since then is not: with n of them, a limit may be
    overrun by what n - 1 of them accept in a second.
    """

    def __init__(self, source: Source, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._last = Look(at_seconds=float("-inf"))
        self._before = self._last
        self._accepted: dict[Line, int] = {}
        self._wanted = asyncio.Event()
        self._looked = asyncio.Event()

    async def keep(self) -> None:
        """Looks whenever somebody has asked, until cancelled."""
        while True:
            await self._wanted.wait()
            try:
                with contextlib.suppress(MeshError, TimeoutError), within(_PATIENCE_SECONDS):
                    await self._look()
            finally:
                self._wanted.clear()
                self._looked.set()
                self._looked = asyncio.Event()

    async def look(self) -> Look:
        """How the queues stood at most a second ago."""
        age_seconds = self._clock.monotonic_seconds() - self._last.at_seconds
        if age_seconds >= _EARLY_SECONDS:
            self._wanted.set()
        if age_seconds >= _KEPT_SECONDS:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._looked.wait(), _PATIENCE_SECONDS)
        return self._last

    async def queued(self, tenant: str, lane: tier_pb2.Lane) -> int:
        """How many tasks are queued, those accepted since the last look included."""
        depth = (await self.look()).line(tenant, lane)
        return depth.queued + self._accepted.get((tenant, lane), 0)

    def count(self, tenant: str, lane: tier_pb2.Lane) -> None:
        """Notes that a task is about to be queued."""
        self._accepted[tenant, lane] = self._accepted.get((tenant, lane), 0) + 1

    def drained_per_second(self, tenant: str, lane: tier_pb2.Lane) -> float | None:
        """How many tasks executors took between the last two looks; None before those."""
        seconds = self._last.at_seconds - self._before.at_seconds
        if self._before.at_seconds == float("-inf"):
            return None
        now, before = (each.line(tenant, lane) for each in (self._last, self._before))
        return (now.delivered - before.delivered) / seconds

    async def _look(self) -> None:
        at_seconds = self._clock.monotonic_seconds()
        counted = dict(self._accepted)
        lines: dict[Line, Depth] = {}
        async for queue, depth in self._source.all():
            line = (queue.tenant, queue.lane)
            lines[line] = lines.get(line, NO_DEPTH) + depth
        self._before, self._last = self._last, Look(at_seconds, lines)
        self._accepted = {
            line: left
            for line, count in self._accepted.items()
            if (left := count - counted.get(line, 0))
        }
