"""All API keys in memory, never older than a few seconds: so a check asks nobody.

The ring follows the store. Now and then, when it is asked for a key, it makes sure that it has
all that is stored; where that cannot be known it says so instead of a key. A key that was
revoked is thus refused within seconds by every coordinator, one that is cut off from the
store included. Where nobody asks, nothing is done.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from agentmesh.access.v1.stored_api_key_pb2 import StoredApiKey
from meshkit.clock import Clock
from meshkit.errors import DependencyUnavailable, MeshError
from meshkit.time_limit import within

# What was certain so long ago is made sure of again, beside the call that asks.
_LOOK_AFTER_SECONDS: Final = 1.0
# What was certain so long ago does not count any more: the call waits for certainty.
STALE_AFTER_SECONDS: Final = 3.0
# Gateways wait for five seconds, a call with a good key on a busy machine is worth some of them.
_LOOK_SECONDS: Final = 2.0
_AGAIN_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Change:
    """What a message of the store says of a key: what it is now, or when it was used."""

    sequence: int
    key_id: str
    record: StoredApiKey | None
    used: datetime | None


class Feed(Protocol):
    """All changes of keys, in their order."""

    def changes(self) -> AsyncGenerator[Sequence[Change]]:
        """What is stored, and then what comes; DependencyUnavailable when something breaks."""
        ...

    async def newest(self) -> int:
        """The sequence of the newest change that is stored; 0 where there is none."""
        ...


@dataclass(slots=True)
class _Copy:
    """What was read of the store, from its beginning."""

    position: int = 0
    records: dict[str, StoredApiKey] = field(default_factory=dict[str, StoredApiKey])
    uses: dict[str, datetime] = field(default_factory=dict[str, datetime])

    def take(self, changes: Sequence[Change]) -> None:
        for each in changes:
            self.position = each.sequence
            if each.record is not None:
                self.records[each.key_id] = each.record
            if each.used is not None:
                self.uses[each.key_id] = each.used


class KeyRing:
    """Finds keys by id. Safe to share within one event loop."""

    def __init__(self, feed: Feed, given: Mapping[str, StoredApiKey], clock: Clock) -> None:
        """`given`: keys that are in no store unless they were revoked, by id."""
        self._feed: Final = feed
        self._given: Final = given
        self._clock: Final = clock
        self._copy = _Copy()
        # Whether the copy is one that still goes on.
        self._follows = False
        self._moved: Final = asyncio.Event()
        # When it was last certain that nothing was missing.
        self._certain_at = float("-inf")
        self._look: asyncio.Task[None] | None = None

    async def find(self, key_id: str) -> StoredApiKey | None:
        """The key of that id; None where there is none.

        Raises:
            DependencyUnavailable: It is not known how the keys stand.
        """
        now = self._clock.monotonic_seconds()
        if now - self._certain_at > STALE_AFTER_SECONDS:
            await asyncio.shield(self._begin_look())
        elif now - self._certain_at > _LOOK_AFTER_SECONDS:
            self._begin_look()
        record = self._get(key_id)
        if record is None:
            # It may have been made a moment ago, by another coordinator.
            await self.catch_up()
            record = self._get(key_id)
        return record

    async def catch_up(self) -> None:
        """Returns when all that was stored before this was called is known.

        Those who wait share a look, so that whoever tries ids costs the store little.

        Raises:
            DependencyUnavailable: That takes too long.
        """
        if self._look is not None:
            # It began before, and may have missed what is asked for.
            with contextlib.suppress(DependencyUnavailable):
                await asyncio.shield(self._look)
        await asyncio.shield(self._begin_look())

    def used(self, key_id: str) -> datetime | None:
        """When the key was last used, as far as it was noted."""
        return self._copy.uses.get(key_id)

    def all(self) -> Sequence[StoredApiKey]:
        """Every key that is stored, as far as it is known."""
        return list(self._copy.records.values())

    def drop(self, key_id: str) -> None:
        """Forgets a key that was removed from the store."""
        self._copy.records.pop(key_id, None)
        self._copy.uses.pop(key_id, None)

    async def follow(self) -> None:
        """Keeps up with the store until cancelled."""
        while True:
            with contextlib.suppress(MeshError):
                async with contextlib.aclosing(self._feed.changes()) as changes:
                    await self._follow(changes)
            self._follows = False
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _follow(self, changes: AsyncGenerator[Sequence[Change]]) -> None:
        # From the beginning every time: the store may be another one than before.
        copy = _Copy()
        enough = await self._feed.newest()
        if not enough:
            self._install(copy)
        async for some in changes:
            copy.take(some)
            if copy.position >= enough:
                self._install(copy)

    def _install(self, copy: _Copy) -> None:
        self._copy = copy
        self._follows = True
        self._moved.set()

    def _get(self, key_id: str) -> StoredApiKey | None:
        return self._copy.records.get(key_id) or self._given.get(key_id)

    def _begin_look(self) -> asyncio.Task[None]:
        if self._look is None:
            self._look = asyncio.create_task(self._look_now())
            self._look.add_done_callback(self._end_look)
        return self._look

    def _end_look(self, look: asyncio.Task[None]) -> None:
        self._look = None
        if not look.cancelled():
            # Who waits is told; where nobody does, the next look will tell.
            look.exception()

    async def _look_now(self) -> None:
        begun = self._clock.monotonic_seconds()
        try:
            with within(_LOOK_SECONDS):
                newest = await self._feed.newest()
                while not self._follows or self._copy.position < newest:
                    self._moved.clear()
                    await self._moved.wait()
        except (TimeoutError, MeshError) as error:
            raise DependencyUnavailable(
                "API keys cannot be checked now: their store does not answer.",
                metadata={"dependency": "nats"},
            ) from error
        self._certain_at = begun
