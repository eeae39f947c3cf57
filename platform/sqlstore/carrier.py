"""Carries the messages of one stream into a copy, in batches and in their order."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, Protocol, TypeVar

from google.protobuf.message import DecodeError

from meshkit.bus import Bus, Followed, Follower
from meshkit.errors import MeshError, NewerFormat
from meshkit.log import Log
from sqlstore.positions import BEGINNING, Place

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_BUSY_MESSAGES: Final = 16
# How many messages may wait in memory.
_WINDOW: Final = 2048
# Of how many entries a batch is complete, so that none takes the database long.
_COMPLETE: Final = 2048
_EVERYTHING: Final = ">"


@dataclass(frozen=True, slots=True)
class Pace:
    """For how long messages are gathered before they are written together, in seconds.

    One alone costs ten times as much as one of many.
    """

    usual: float = 0.02
    # Where they come thick and fast.
    busy: float = 0.25


class Copy(Protocol[T_contra]):
    """Where messages go, once they are decoded."""

    async def places(self) -> Mapping[str, Place]:
        """How far each stream was carried."""
        ...

    async def apply(
        self, entries: Sequence[T_contra], *, stream: str, before: Place, after: Place
    ) -> None:
        """Writes what lies between two places; Moved where the copy is not at the first."""
        ...

    async def clear(self, stream: str) -> None:
        """The stream is another one than before: it is carried anew from its beginning."""
        ...


@dataclass(frozen=True, slots=True)
class Source(Generic[T]):
    """What is carried."""

    stream: str
    # Of the subjects.
    filters: Sequence[str]
    # Raises NewerFormat where only a later version can go on, and DecodeError, ValueError or
    # another MeshError for what is logged and passed over.
    decode: Callable[[Followed], T]
    pace: Pace = Pace()
    # For how many an entry counts in a batch.
    size: Callable[[T], int] = lambda entry: 1


async def fits(bus: Bus, stream: str, place: Place) -> bool:
    """Whether what is in the stream goes on where a copy of it ends.

    A broker may lose its last messages, or all of them, and give their sequences
    to others.

    Raises:
        DependencyUnavailable: The broker cannot be reached in time.
    """
    if place == BEGINNING:
        return True
    info = await bus.stream_info(stream)
    if info is None or place.position > int(info["state"]["last_seq"]):
        return False
    async with aclosing(
        bus.read(stream, _EVERYTHING, start_sequence=place.position, batch=1)
    ) as messages:
        async for message in messages:
            if message.sequence == place.position:
                return (message.time - _EPOCH) // _MICROSECOND == place.stamp_ns // 1_000
            break
    # Retention has removed it since.
    return True


class Carrier(Generic[T]):
    """Carries one stream into one copy."""

    def __init__(
        self,
        bus: Bus,
        copy: Copy[T],
        log: Log,
        source: Source[T],
        *,
        applied: Callable[[], None] = lambda: None,
    ) -> None:
        """`applied` is called after every batch."""
        self._bus = bus
        self._copy = copy
        self._log = log
        self._source = source
        self._applied = applied

    async def run(self) -> None:
        """Carries for ever.

        The place of a batch is written together with it, so that a crash
        repeats and loses nothing. What cannot be decoded is logged and passed over.

        Raises:
            NewerFormat: A later version wrote what comes next.
            MeshError: The broker or the copy is away; begin anew.
            Moved: Somebody else carries into the copy; begin anew.
        """
        stream = self._source.stream
        place = (await self._copy.places()).get(stream, BEGINNING)
        if not await fits(self._bus, stream, place):
            self._log.warning("projection.log_lost", stream=stream, position=place.position)
            await self._copy.clear(stream)
            place = BEGINNING
        async with self._bus.follow(
            stream,
            *self._source.filters,
            start_sequence=place.position + 1,
            window=_WINDOW,
        ) as follower:
            is_busy = False
            while True:
                batch = await self._gathered(follower, is_busy)
                is_busy = len(batch) >= _BUSY_MESSAGES
                for entries, after in self._portions(batch):
                    before, place = place, after
                    await self._copy.apply(entries, stream=stream, before=before, after=after)
                    self._applied()

    def _portions(self, messages: Sequence[Followed]) -> Iterator[tuple[list[T], Place]]:
        """What is written at once, and how far the stream is carried with it."""
        entries: list[T] = []
        size = 0
        for number, message in enumerate(messages, start=1):
            try:
                entry = self._source.decode(message)
            except NewerFormat:
                if entries:
                    before = messages[number - 2]
                    yield entries, Place(before.sequence, before.timestamp_ns)
                raise
            except (DecodeError, ValueError, MeshError):
                self._log.error("projection.unreadable", subject=message.subject)
            else:
                entries.append(entry)
                size += self._source.size(entry)
            if size >= _COMPLETE or number == len(messages):
                yield entries, Place(message.sequence, message.timestamp_ns)
                entries, size = [], 0

    async def _gathered(self, follower: Follower, is_busy: bool) -> list[Followed]:
        """The messages that come within a moment after the first."""
        await follower.wait()
        if follower.waiting < _WINDOW // 2:
            pace = self._source.pace
            await asyncio.sleep(pace.busy if is_busy else pace.usual)
        return await follower.take()
