"""The journal of usage in the broker; only read. See services/governor/usage_stream.py."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final

from google.protobuf.message import DecodeError

from agentmesh.governor.v1.usage_record_pb2 import UsageRecord, UsageRecords
from audit.usage import Span, Spent
from meshkit.bus import Bus

STREAM: Final = "USAGE"
SUBJECT: Final = "usage"
# Messages a request.
_BATCH: Final = 1024


class JetStreamUsage:
    """A Journal."""

    def __init__(self, bus: Bus) -> None:
        self._bus: Final = bus
        self._since: datetime | None = None

    async def span(self) -> Span | None:
        """How far it goes now; None where there is none."""
        info = await self._bus.stream_info(STREAM)
        if info is None:
            return None
        state = info["state"]
        whole = int(state["first_seq"]) <= 1
        if self._since is None:
            self._since = await self._begin(info["created"], whole=whole)
        return Span(int(state["last_seq"]), self._since, whole)

    async def _begin(self, created: str, *, whole: bool) -> datetime:
        """When the stream was made, or what its oldest message says.

        The latter is later where what is old was removed, and earlier where the stream was
        restored.
        """
        oldest: datetime | None = None
        async with aclosing(self._bus.read(STREAM, SUBJECT, batch=1)) as messages:
            async for message in messages:
                times = [
                    each.settle_time.ToDatetime(tzinfo=UTC) for each in _records(message.payload)
                ]
                oldest = min(times, default=None)
                break
        # The broker tells nanoseconds.
        made = datetime.fromisoformat(created[:19] + "+00:00")
        if oldest is None:
            return made
        return min(made, oldest) if whole else oldest

    async def read(self, after: int, until: int) -> AsyncGenerator[Spent]:
        """The records after one sequence up to another, in order, with their repeats."""
        if until <= after:
            return
        async with aclosing(
            self._bus.read(STREAM, SUBJECT, start_sequence=after + 1, batch=_BATCH)
        ) as messages:
            async for message in messages:
                if message.sequence > until:
                    return
                for record in _records(message.payload):
                    yield _spent(message.sequence, record)


def _records(payload: bytes) -> list[UsageRecord]:
    try:
        return list(UsageRecords.FromString(payload).records)
    except DecodeError:
        return []  # the ledger stands still at it, which shows


def _spent(sequence: int, record: UsageRecord) -> Spent:
    time = record.settle_time
    return Spent(
        sequence,
        record.tenant,
        record.key,
        record.task_type,
        record.agent,
        record.session,
        record.usage.cost_micros,
        time.seconds + time.nanos / 1e9,
    )
