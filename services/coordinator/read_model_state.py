"""How the read model stands."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from meshkit.bus import Bus
from meshkit.clock import Clock
from sqlstore.positions import BEGINNING, Place
from tasklog.partitions import Partition

_NOTHING: Final = timedelta(0)


@dataclass(frozen=True, slots=True)
class StreamState:
    """How far one stream was carried."""

    stream: str
    # Stream sequences, 0 for none.
    position: int
    last: int
    # How long the first event that was not carried has been in the log.
    behind: timedelta


class Sized(Protocol):
    """Says what it is and what it takes."""

    @property
    def kind(self) -> str: ...
    async def size_bytes(self) -> int: ...


class Places(Protocol):
    """Knows how far each stream was carried."""

    async def places(self) -> Mapping[str, Place]: ...


class ReadModelState:
    """Compares the copy with the log."""

    def __init__(
        self,
        bus: Bus,
        database: Sized,
        copy: Places,
        clock: Clock,
        *,
        partitions: Sequence[Partition],
    ) -> None:
        self._bus = bus
        self._database = database
        self._copy = copy
        self._clock = clock
        self._partitions = partitions

    @property
    def kind(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._database.kind

    async def size_bytes(self) -> int:
        """What the copy takes on disk."""
        return await self._database.size_bytes()

    async def streams(self) -> Sequence[StreamState]:
        """How far each stream is.

        Raises:
            DependencyUnavailable: The broker or the database is away.
        """
        places = await self._copy.places()
        return [
            await self._of(each, places.get(each.stream, BEGINNING)) for each in self._partitions
        ]

    async def _of(self, partition: Partition, place: Place) -> StreamState:
        last = await self._bus.last(partition.stream, partition.all_events)
        end = 0 if last is None else last.sequence
        behind = _NOTHING
        async with aclosing(
            self._bus.read(
                partition.stream,
                partition.all_events,
                start_sequence=place.position + 1,
                batch=1,
            )
        ) as messages:
            async for first in messages:
                behind = max(_NOTHING, self._clock.now() - first.time)
                break
        return StreamState(partition.stream, place.position, max(end, place.position), behind)
