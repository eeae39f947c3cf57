"""When API keys are used, coarsely: at most one write for each key in ten minutes."""

import asyncio
import contextlib
from datetime import datetime
from typing import Final, Protocol

from agentmesh.access.v1.access_service_pb2 import ApiKey
from meshkit import names
from meshkit.clock import Clock
from meshkit.errors import MeshError
from services.coordinator.api_keys import key_id_of

COARSE_SECONDS: Final = 600.0
# Uses that come together are written together.
_GATHER_SECONDS: Final = 1.0
# Beyond it uses are not noted until the store takes those that wait.
_MAX_WAITING: Final = 10_000


class Store(Protocol):
    """Keeps when keys were used."""

    async def note_use(self, tenant: str, key_id: str, time: datetime, *, once_per: str) -> None:
        """Keeps it, once among those who say so with the same `once_per`."""
        ...


class Ring(Protocol):
    """Knows what is kept."""

    def used(self, key_id: str) -> datetime | None: ...


class KeyUses:
    """Notes uses in memory, and writes those that are news."""

    def __init__(self, store: Store, ring: Ring, clock: Clock) -> None:
        self._store: Final = store
        self._ring: Final = ring
        self._clock: Final = clock
        # By the key's name.
        self._waiting: dict[str, datetime] = {}
        self._some: Final = asyncio.Event()

    def note(self, key: ApiKey, time: datetime) -> None:
        """Notes that the key was used; costs next to nothing."""
        known = self._ring.used(key_id_of(key.name))
        if known is not None and (time - known).total_seconds() < COARSE_SECONDS:
            return
        if key.name not in self._waiting and len(self._waiting) < _MAX_WAITING:
            self._waiting[key.name] = time
            self._some.set()

    async def write(self) -> None:
        """Writes what is noted until cancelled. What is lost with the process stays unsaid."""
        while True:
            await self._some.wait()
            await self._clock.sleep(_GATHER_SECONDS)
            self._some.clear()
            for name, time in list(self._waiting.items()):
                tenant, key_id = names.API_KEY.parse(name, field="name")
                # The store is away: the key's next use is noted again.
                with contextlib.suppress(MeshError):
                    period = int(time.timestamp() // COARSE_SECONDS)
                    await self._store.note_use(tenant, key_id, time, once_per=str(period))
                del self._waiting[name]
