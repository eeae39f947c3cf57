"""Schedules on a JetStream stream of their own: a subject each, whose last message counts.

That message is also the schedule's timer. What a schedule does and when it runs
next are one fact, so that no change can lose a time or leave one behind.
"""

from collections.abc import AsyncIterator
from typing import Final

from agentmesh.coordinator.v1.schedule_service_pb2 import Schedule
from meshkit.bus import Bus, StoredMessage, StreamSpec
from services.coordinator import timers
from services.coordinator.schedules import Stored

_STREAM: Final = "SCHEDULES"
_ALL: Final = "schedule.*.*"
_REQUEST_ID: Final = "Agentmesh-Request-Id"
_REQUEST_DIGEST: Final = "Agentmesh-Request-Digest"
# Shared by all coordinators.
TICKS: Final = timers.unlimited(_STREAM, "ticks", _ALL, "Schedules, when they are due.")


class JetStreamScheduleStore:
    """A Store. Each write is a compare-and-set."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def prepare(self) -> None:
        """Creates the stream, or brings it up to date."""
        await self._bus.ensure_stream(
            StreamSpec(
                name=_STREAM,
                subjects=(_ALL,),
                max_messages_per_subject=1,
                duplicate_window_seconds=10,
                description="Schedules, as they stand. Append with compare-and-set only.",
            )
        )

    async def read(self, tenant: str, schedule_id: str) -> Stored | None:
        """The schedule, if it is there."""
        message = await self._bus.last(_STREAM, _subject(tenant, schedule_id))
        return None if message is None else _stored(message)

    async def write(self, tenant: str, schedule_id: str, stored: Stored) -> None:
        """Replaces what has `stored.sequence`; Conflict if that is not there any more."""
        headers = {_REQUEST_DIGEST: stored.request_digest}
        if stored.request_id:
            headers[_REQUEST_ID] = stored.request_id
        await self._bus.append(
            _subject(tenant, schedule_id),
            stored.schedule.SerializeToString(),
            expected_last=stored.sequence,
            headers=headers,
        )

    async def list(self, tenant: str) -> AsyncIterator[Stored]:
        """All of a tenant's, in no order."""
        async for message in self._bus.read(_STREAM, _subject(tenant, "*")):
            yield _stored(message)

    async def count(self, tenant: str) -> int:
        """How many a tenant has."""
        return len(await self._bus.subjects(_STREAM, _subject(tenant, "*")))

    async def remove(self, tenant: str, schedule_id: str) -> None:
        """Removes it, if it is there."""
        await self._bus.purge(_STREAM, _subject(tenant, schedule_id))


def _subject(tenant: str, schedule_id: str) -> str:
    return f"schedule.{tenant}.{schedule_id}"


def _stored(message: StoredMessage) -> Stored:
    return Stored(
        schedule=Schedule.FromString(message.payload),
        request_id=message.headers.get(_REQUEST_ID, ""),
        request_digest=message.headers.get(_REQUEST_DIGEST, ""),
        sequence=message.sequence,
    )
