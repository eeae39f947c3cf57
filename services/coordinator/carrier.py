"""Carries the events of one stream into a copy, in batches and in their order."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshkit import names
from meshkit.bus import Bus, Followed, Follower
from meshkit.errors import MeshError
from meshkit.log import Log
from services.coordinator.read_model_database import BEGINNING, Place
from services.coordinator.task_row import Recorded
from tasklog import claim_check, subjects
from tasklog.partitions import Partition

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
# Events that come within so long are written together: one alone costs ten times
# as much as one of many, and nobody waits for the list.
_GATHER_SECONDS: Final = 0.02
# Where they come thick and fast, a task's events mostly fall into one batch.
_BUSY_GATHER_SECONDS: Final = 0.25
_BUSY_EVENTS: Final = 16
# How many events may wait in memory; also the largest batch.
_WINDOW: Final = 2048


class Copy(Protocol):
    """Where events go."""

    async def places(self) -> Mapping[str, Place]:
        """How far each stream was carried."""
        ...

    async def apply(
        self, entries: Sequence[Recorded], *, stream: str, before: Place, after: Place
    ) -> None:
        """Writes events between two places; Moved where the copy is not at the first."""
        ...

    async def clear(self) -> None:
        """Forgets everything."""
        ...


async def fits(bus: Bus, partition: Partition, place: Place) -> bool:
    """Whether what is in the log goes on where a copy of it ends.

    A broker may lose its last messages, or all of them, and give their sequences
    to others.

    Raises:
        DependencyUnavailable: The broker cannot be reached in time.
    """
    if place == BEGINNING:
        return True
    info = await bus.stream_info(partition.stream)
    if info is None or place.position > int(info["state"]["last_seq"]):
        return False
    async with aclosing(
        bus.read(partition.stream, partition.all_events, start_sequence=place.position, batch=1)
    ) as messages:
        async for message in messages:
            if message.sequence == place.position:
                return (message.time - _EPOCH) // _MICROSECOND == place.stamp_ns // 1_000
            break
    # Retention has removed it since.
    return True


class Carrier:
    """Carries one stream into one copy."""

    def __init__(
        self,
        bus: Bus,
        copy: Copy,
        log: Log,
        partition: Partition,
        *,
        applied: Callable[[], None] = lambda: None,
    ) -> None:
        """`applied` is called after every batch."""
        self._bus = bus
        self._copy = copy
        self._log = log
        self._partition = partition
        self._applied = applied

    async def run(self) -> None:
        """Carries for ever.

        The place of a batch is written together with it, so that a crash
        repeats and loses nothing. What is no event is logged and passed over.

        Raises:
            MeshError: The broker or the copy is away; begin anew.
            Moved: Somebody else carries into the copy; begin anew.
        """
        stream = self._partition.stream
        place = (await self._copy.places()).get(stream, BEGINNING)
        if not await fits(self._bus, self._partition, place):
            self._log.warning("projection.log_lost", stream=stream, position=place.position)
            await self._copy.clear()
            place = BEGINNING
        async with self._bus.follow(
            stream,
            self._partition.all_events,
            start_sequence=place.position + 1,
            window=_WINDOW,
        ) as follower:
            is_busy = False
            while True:
                batch = await _gathered(follower, is_busy)
                is_busy = len(batch) >= _BUSY_EVENTS
                before, place = place, Place(batch[-1].sequence, batch[-1].timestamp_ns)
                await self._copy.apply(
                    self._recorded(batch), stream=stream, before=before, after=place
                )
                self._applied()

    def _recorded(self, batch: Sequence[Followed]) -> list[Recorded]:
        entries: list[Recorded] = []
        for message in batch:
            try:
                entries.append(_recorded(message))
            except (DecodeError, ValueError, MeshError):
                self._log.error("projection.unreadable", subject=message.subject)
        return entries


async def _gathered(follower: Follower, is_busy: bool) -> list[Followed]:
    """The events that come within a moment after the first."""
    await follower.wait()
    if follower.waiting < _WINDOW // 2:
        await asyncio.sleep(_BUSY_GATHER_SECONDS if is_busy else _GATHER_SECONDS)
    return await follower.take()


def _recorded(message: Followed) -> Recorded:
    event = TaskEvent.FromString(message.payload)
    if names.TASK.parse(event.task, field="task") != subjects.parse(message.subject):
        raise ValueError(f"{event.task!r} is not the task of {message.subject}")
    blobs = claim_check.references(event)
    size_bytes = len(message.payload) + sum(blob.size_bytes for blob in blobs)
    return Recorded(event, message.sequence, size_bytes)
