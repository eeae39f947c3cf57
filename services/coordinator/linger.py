"""Tasks that wait a moment for others, so that they go through the mesh together.

Most of what a task costs that comes alone is waking: each of its messages wakes processes
that have been idle, and that find none of their code in the processor's caches. Tasks that
begin together wake them together. It is what `linger.ms` is to a producer of Kafka, and
`commit_delay` with `commit_siblings` to PostgreSQL.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Final, Protocol

from agentmesh.common.v1 import tier_pb2
from meshkit.clock import Clock
from tasklog.policy import Policy

# A group goes when there are so many: where tasks come faster, calls between services find
# company by themselves, and to wait for it would only cost time.
_COMPLETE: Final = 8
# Who has met nobody for so long does not wait for anybody; and a call that began longer ago is
# no company, for whoever made it has waited for its end since.
_ALONE_SECONDS: Final = 1.0
_MICROS_A_SECOND: Final = 1_000_000


class Policies(Protocol):
    """Knows the policy in force."""

    @property
    def current(self) -> Policy: ...


class _Group:
    """The tasks of one lane that wait for each other, and what is known of its callers."""

    __slots__ = ("_begun", "_clock", "_met_at", "_released_at", "_timer", "_waiting")

    def __init__(self, clock: Clock) -> None:
        self._clock: Final = clock
        # When calls began that have not ended, the newest last; those that wait are among them.
        self._begun: Final[dict[object, float]] = {}
        # When a call last found another one that had just begun.
        self._met_at = float("-inf")
        self._released_at = float("-inf")
        self._waiting: Final[list[asyncio.Future[None]]] = []
        self._timer: asyncio.Task[None] | None = None

    async def begin(self, call: object, seconds: float) -> None:
        """Returns when the group of this moment goes, `seconds` after the last one."""
        now = self._clock.monotonic_seconds()
        if now - next(reversed(self._begun.values()), float("-inf")) <= _ALONE_SECONDS:
            self._met_at = now
        self._begun[call] = now
        pause = self._released_at + seconds - now
        if now - self._met_at > _ALONE_SECONDS or (pause <= 0 and not self._waiting):
            self._released_at = now
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        if self._timer is None:
            # In a context of its own: it is nobody's alone.
            self._timer = asyncio.create_task(self._release_after(pause), context=Context())
        elif len(self._waiting) >= _COMPLETE:
            self._timer.cancel()
            self._release()
        try:
            await mine
        except asyncio.CancelledError:
            if mine in self._waiting:
                self._waiting.remove(mine)
            raise

    def end(self, call: object) -> None:
        """The call has ended, or was given up."""
        del self._begun[call]

    async def _release_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._release()

    def _release(self) -> None:
        self._timer = None
        if self._waiting:
            self._released_at = self._clock.monotonic_seconds()
        waiting = self._waiting.copy()
        self._waiting.clear()
        for each in waiting:
            if not each.done():
                each.set_result(None)


class Linger:
    """Holds tasks back for as long as the policy of their lane says, where others come too.

    A caller that is alone never waits: neither one that comes now and then, nor one that
    submits its next task when the one before has ended. Tasks of all tenants wait together.
    """

    def __init__(self, policies: Policies, clock: Clock) -> None:
        self._policies: Final = policies
        self._groups: Final = defaultdict[int, _Group](lambda: _Group(clock))

    @asynccontextmanager
    async def together(self, lane: tier_pb2.Lane) -> AsyncGenerator[None]:
        """Waits for the company of a lane's other tasks, if there is any; it holds until the end.

        Args:
            lane: As the task names it. One that names none does not wait: which lane its
                agent gives it is not known yet.
        """
        seconds = self._seconds(lane)
        if not seconds:
            yield
            return
        group, call = self._groups[lane], object()
        try:
            await group.begin(call, seconds)
            yield
        finally:
            group.end(call)

    def _seconds(self, lane: tier_pb2.Lane) -> float:
        return (
            self._policies.current.lane(lane).linger.ToMicroseconds() / _MICROS_A_SECOND
            if lane
            else 0.0
        )
