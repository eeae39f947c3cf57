"""Keeps a copy up with its streams."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from meshkit.bus import Bus
from meshkit.errors import MeshError, NewerFormat
from meshkit.log import Log
from sqlstore.carrier import Carrier, Copy, Source
from sqlstore.positions import BEGINNING, Moved

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

_RETRY_SECONDS: Final = 1.0
# Where two write into one copy, each makes a consumer of the broker after each pause.
_MOVED_SECONDS: Final = 0.25
# The copy is usually a moment behind.
_LOOK_AGAIN_SECONDS: Final = 0.05


class SharedCopy(Copy[T_contra], Protocol[T_contra]):
    """A copy that several processes may write to, one at a time."""

    async def lead(self) -> None:
        """Returns once this process is the one that carries into the copy."""
        ...

    async def resign(self) -> None:
        """Lets another process carry, if one wants to; this one does not for some seconds."""
        ...


class Projector(Generic[T]):
    """Feeds a copy from every stream that it is of."""

    def __init__(
        self, bus: Bus, copy: SharedCopy[T], log: Log, *, sources: Sequence[Source[T]]
    ) -> None:
        self._bus = bus
        self._copy = copy
        self._log = log
        self._sources = sources
        self._listeners: list[Callable[[], None]] = []

    def on_applied(self, listener: Callable[[], None]) -> None:
        """Has `listener` called whenever this process has written a batch."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Runs until cancelled, whatever fails: that stops nothing but the copy."""
        async with asyncio.TaskGroup() as group:
            for source in self._sources:
                group.create_task(self._keep_up(source))

    async def has_passed(self, stream: str, stream_sequence: int) -> bool:
        """Whether every message of the stream up to that one is written.

        Raises:
            DependencyUnavailable: The copy cannot be read.
        """
        place = (await self._copy.places()).get(stream, BEGINNING)
        return place.position >= stream_sequence

    async def wait_for(self, stream: str, stream_sequence: int) -> None:
        """Returns once every message up to that one is written. The caller limits the time."""
        while True:
            if await self.has_passed(stream, stream_sequence):
                return
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _keep_up(self, source: Source[T]) -> None:
        carrier = Carrier(self._bus, self._copy, self._log, source, applied=self._tell)
        while True:
            try:
                await self._copy.lead()
                await carrier.run()
            except Moved:
                # It looks where the copy is now; nothing is wrong with that.
                await asyncio.sleep(_MOVED_SECONDS)
            except NewerFormat as error:
                # To pass it over would leave the copy wrong for good: it stands still until
                # a process of that version carries.
                self._log.warning("projection.newer_format", stream=source.stream, error=str(error))
                await self._copy.resign()
                await asyncio.sleep(_RETRY_SECONDS)
            except MeshError as error:
                self._log.error("projection.failed", stream=source.stream, error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
