"""The journal of usage on JetStream: written before anything is counted."""

from collections.abc import Sequence
from typing import Final

from agentmesh.governor.v1 import usage_record_pb2 as pb
from meshkit.bus import Bus, StreamSpec
from meshkit.errors import DependencyUnavailable, QueueFull
from meshkit.ids import Ids
from services.governor.streams import created_ms
from services.governor.usage_stream import STREAM, SUBJECT


class JetStreamJournal:
    """A Journal: what was appended is never lost, and may be there twice."""

    def __init__(self, bus: Bus, ids: Ids) -> None:
        self._bus: Final = bus
        self._ids: Final = ids
        self._created_ms = 0
        self._last = 0
        self._is_stale = False

    @property
    def created_ms(self) -> int:
        """When the stream was created, in milliseconds since 1970."""
        return self._created_ms

    async def refresh(self) -> None:
        """Looks when the stream was created. Raises DependencyUnavailable."""
        self._is_stale = False
        try:
            info = await self._bus.stream_info(STREAM)
        except BaseException:
            self._is_stale = True
            raise
        if info is not None:
            self._created_ms = created_ms(info["created"])

    def _reconnected(self, is_same_server: bool) -> None:
        self._is_stale = True

    async def prepare(self, spec: StreamSpec) -> None:
        """Creates the stream, or brings it up to date."""
        await self._bus.ensure_stream(spec)
        self._bus.on_reconnect(self._reconnected)
        await self.refresh()

    async def last_place(self) -> int:
        """The place of the last message, 0 for none. Raises DependencyUnavailable."""
        info = await self._bus.stream_info(STREAM)
        return 0 if info is None else int(info["state"]["last_seq"])

    async def append(self, records: Sequence[pb.UsageRecord]) -> int:
        """Stores records, at least one, as one message; its stream sequence.

        Returns after the acknowledgement. Repeating it is safe: of a tenant's records with
        the same key only the first ever counts.

        Raises:
            DependencyUnavailable: Nobody knows whether they are stored, or the stream is full.
        """
        payload = pb.UsageRecords(records=records).SerializeToString()
        try:
            sequence = await self._bus.publish(SUBJECT, payload, message_id=self._ids.new())
        except QueueFull as error:
            raise DependencyUnavailable(
                f"Failed to write to the journal of usage: {error}",
                metadata={"dependency": "journal"},
                retry_after_seconds=1.0,
            ) from error
        # Places that begin again are those of another stream; others may be, after a reconnect.
        if self._is_stale or sequence <= self._last:
            await self.refresh()
        self._last = sequence
        return sequence
