"""Keeps the read model up with the log."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from meshkit.bus import Bus
from meshkit.errors import MeshError
from meshkit.log import Log
from services.coordinator.carrier import Carrier, Copy
from services.coordinator.read_model_database import BEGINNING, Moved
from tasklog.partitions import Partition

_RETRY_SECONDS: Final = 1.0
# The list is usually a moment behind.
_LOOK_AGAIN_SECONDS: Final = 0.05


class SharedCopy(Copy, Protocol):
    """A copy that several processes may write to, one at a time."""

    async def lead(self) -> None:
        """Returns once this process is the one that carries events into the copy."""
        ...


class Projector:
    """Feeds the copy of the log that is in use, from every stream of it."""

    def __init__(
        self, bus: Bus, copy: SharedCopy, log: Log, *, partitions: Sequence[Partition]
    ) -> None:
        self._bus = bus
        self._copy = copy
        self._log = log
        self._partitions = partitions
        self._listeners: list[Callable[[], None]] = []

    def on_applied(self, listener: Callable[[], None]) -> None:
        """Has `listener` called whenever this process has written events."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Runs until cancelled, whatever fails: that stops nothing but the list."""
        async with asyncio.TaskGroup() as group:
            for partition in self._partitions:
                group.create_task(self._keep_up(partition))

    async def has_passed(self, stream: str, stream_sequence: int) -> bool:
        """Whether every event of the stream up to that one is written.

        Raises:
            DependencyUnavailable: The copy cannot be read.
        """
        place = (await self._copy.places()).get(stream, BEGINNING)
        return place.position >= stream_sequence

    async def wait_for(self, stream: str, stream_sequence: int) -> None:
        """Returns once every event up to that one is written. The caller limits the time."""
        while True:
            if await self.has_passed(stream, stream_sequence):
                return
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _keep_up(self, partition: Partition) -> None:
        carrier = Carrier(self._bus, self._copy, self._log, partition, applied=self._tell)
        while True:
            try:
                await self._copy.lead()
                # Who was moved looks where the copy is now; nothing is wrong with that.
                with suppress(Moved):
                    await carrier.run()
            except MeshError as error:
                self._log.error("projection.failed", stream=partition.stream, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
