"""A message that was pulled, and what may be done with it."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Final

from meshkit.bus_link import Link
from meshkit.bus_messages import own_headers
from meshkit.bus_wire import WireMessage

_ACKNOWLEDGE: Final = b"+ACK"
_IN_PROGRESS: Final = b"+WPI"
_REJECT: Final = b"+TERM"
_NANOSECONDS: Final = 1_000_000_000


class Delivery:
    """One delivery of a stored message. It takes a slot until it is settled.

    Settle it with `acknowledge`, `not_now` or `reject`. Left alone, it is
    delivered again after the consumer's wait; `in_progress` starts that anew.
    All of these raise DependencyUnavailable where NATS has been away for long.
    """

    __slots__ = (
        "_link",
        "_message",
        "_reply",
        "_settled",
        "_wait_seconds",
        "consumer",
        "delivery_count",
        "expires_at",
        "payload",
        "pending",
        "sequence",
        "stream",
        "subject",
        "timestamp_ns",
    )

    def __init__(
        self, link: Link, message: WireMessage, wait_seconds: float, settled: Callable[[int], None]
    ) -> None:
        """`settled` is called with the sequence when the slot is free again."""
        # $JS.ACK.[domain.account.]stream.consumer.count.sequence.consumer_sequence.time.pending
        fields = message.reply.split(".")
        base = 2 if len(fields) == 9 else 4
        self.subject: str = message.subject
        self.payload: bytes = message.data
        # The stream that keeps it.
        self.stream: str = fields[base]
        # The durable name of the consumer that it came from.
        self.consumer: str = fields[base + 1]
        # Which delivery of this message it is, from 1.
        self.delivery_count: int = int(fields[base + 2])
        # Its place in the stream.
        self.sequence: int = int(fields[base + 3])
        # When the server stored it, in nanoseconds since 1970.
        self.timestamp_ns: int = int(fields[base + 5])
        # How many messages the consumer had left to deliver for the first time.
        self.pending: int = int(fields[base + 6])
        # When the server gives up waiting, in seconds of time.monotonic.
        self.expires_at: float = time.monotonic() + wait_seconds
        self._link = link
        self._message = message
        self._reply = message.reply
        self._wait_seconds = wait_seconds
        self._settled = settled

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that the sender set."""
        return own_headers(self._message.headers)

    async def acknowledge(self) -> None:
        """Done: it is not delivered again."""
        await self._settle(_ACKNOWLEDGE)

    async def not_now(self, delay_seconds: float) -> None:
        """It is delivered again after `delay_seconds`."""
        delay = json.dumps({"delay": round(delay_seconds * _NANOSECONDS)})
        await self._settle(f"-NAK {delay}".encode())

    async def reject(self) -> None:
        """It can never be handled: it is not delivered again."""
        await self._settle(_REJECT)

    async def in_progress(self) -> None:
        """Still at work: the wait starts anew."""
        self.expires_at = time.monotonic() + self._wait_seconds
        await self._link.tell(self._reply, _IN_PROGRESS)

    async def _settle(self, verdict: bytes) -> None:
        try:
            await self._link.tell(self._reply, verdict)
        finally:
            self._settled(self.sequence)
