"""Reading a stream in order, from a place on and for ever, where the reader keeps the place.

The server keeps nothing but a short-lived consumer, and nothing is acknowledged:
that is the cheapest way to read all of a stream. It does not go on by itself
after a fault. Whoever reads knows what it has, and begins anew behind that.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from nats.errors import Error as NatsError

from meshkit.bus_link import Link, unreachable
from meshkit.bus_publisher import api_error
from meshkit.bus_wire import WireMessage
from meshkit.time_limit import within

_NANOSECONDS: Final = 1_000_000_000
_EXPIRES_SECONDS: Final = 30.0
_HEARTBEAT_SECONDS: Final = 5.0
# Two heartbeats may be late before the pull counts as dead.
_SILENCE_SECONDS: Final = 2.5 * _HEARTBEAT_SECONDS
# The server forgets the consumer when nobody pulls for so long.
_FORGET_SECONDS: Final = 60.0
# A pull ends here, so that what is read ahead stays bounded. A message that is larger
# by itself would end it for ever: events of over 64 KiB lie in the object store.
_MAX_BYTES: Final = 1024 * 1024 + 64 * 1024
_HEARTBEAT: Final = "100"


class Followed(NamedTuple):
    """A message as it comes by."""

    subject: str
    # Its place in the stream.
    sequence: int
    # When the server stored it, in nanoseconds since 1970.
    timestamp_ns: int
    payload: bytes


class Follower:
    """An async context manager; `Bus.follow` makes it."""

    def __init__(
        self,
        link: Link,
        stream: str,
        subject_filters: Sequence[str],
        start_sequence: int,
        window: int,
    ) -> None:
        """`window`: how many messages are read ahead at most."""
        self._link: Final = link
        self._stream: Final = stream
        self._filters: Final = subject_filters
        self._start: Final = start_sequence
        self._window: Final = window
        self._wake: Final = asyncio.Event()
        self._ready: list[Followed] = []
        self._fault = ""
        self._consumer = ""
        self._count = 0  # messages that the consumer has delivered
        self._asked_for = 0  # messages that the open pull may still bring
        self._heard_at = 0.0
        self._inbox = ""
        self._subscription: Any = None
        self._forget_reconnect = link.on_reconnect(self._note_reconnect)

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._close()

    @property
    def waiting(self) -> int:
        """How many messages `take` would give."""
        return len(self._ready)

    async def wait(self) -> None:
        """Returns when there is a message.

        Raises:
            DependencyUnavailable: Something went wrong since; begin anew.
        """
        while True:
            self._check()
            await self._pull()
            if self._ready:
                return
            self._wake.clear()
            try:
                with within(_HEARTBEAT_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                if time.monotonic() - self._heard_at > _SILENCE_SECONDS:
                    self._fail("the server is silent")

    async def take(self) -> list[Followed]:
        """The messages that have come, in the order of the stream."""
        messages, self._ready = self._ready, []
        await self._pull()
        return messages

    async def _open(self) -> None:
        config = {
            "ack_policy": "none",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self._start,
            "filter_subjects": list(self._filters),
            "replay_policy": "instant",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": round(_FORGET_SECONDS * _NANOSECONDS),
        }
        answer = await self._link.ask_json(
            f"$JS.API.CONSUMER.CREATE.{self._stream}",
            {"stream_name": self._stream, "config": config},
        )
        if "error" in answer:
            raise api_error(answer["error"], f"follow stream {self._stream}")
        self._consumer = answer["name"]
        try:
            self._inbox = self._link.client.new_inbox()
            self._subscription = await self._link.client.listen(self._inbox, self._take)
        except NatsError as error:
            raise unreachable(f"Failed to follow stream {self._stream}") from error

    async def _close(self) -> None:
        self._forget_reconnect()
        if self._link.client.is_closed or not self._link.is_up:
            return
        try:
            if self._subscription is not None:
                await self._subscription.unsubscribe()
            if self._consumer:
                # The server wants to answer somebody, though nobody waits for that.
                self._link.client.send(
                    f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._consumer}", b"", self._inbox
                )
        except (NatsError, OSError):
            pass

    async def _pull(self) -> None:
        room = self._window - len(self._ready) - self._asked_for
        if room < 1 or (self._asked_for and room < self._window // 2):
            return
        request = {
            "batch": room,
            "max_bytes": _MAX_BYTES,
            "expires": round(_EXPIRES_SECONDS * _NANOSECONDS),
            "idle_heartbeat": round(_HEARTBEAT_SECONDS * _NANOSECONDS),
        }
        self._asked_for += room
        self._heard_at = time.monotonic()
        try:
            self._link.client.send(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}",
                json.dumps(request).encode(),
                self._inbox,
            )
        except NatsError as error:
            self._fail(str(error) or type(error).__name__)

    def _take(self, message: WireMessage) -> None:
        self._heard_at = time.monotonic()
        if message.status:
            if message.status != _HEARTBEAT:
                self._note_end(message)
            return
        # $JS.ACK.[domain.account.]stream.consumer.count.sequence.consumer_sequence.time.pending
        _, sequence, count, stamp, _ = message.reply.rsplit(".", 4)
        self._count += 1
        self._asked_for -= 1
        if int(count) != self._count:
            self._fail("a message went missing")
            return
        self._ready.append(Followed(message.subject, int(sequence), int(stamp), message.data))
        self._wake.set()

    def _note_end(self, message: WireMessage) -> None:
        left = message.headers.get("Nats-Pending-Messages")
        if left is None:
            # Nobody there (503), or the consumer is gone or moved (409).
            self._fail(f"the server says {message.status} {message.description}".rstrip())
        else:
            # The pull ended with this much of it unused.
            self._asked_for = max(0, self._asked_for - int(left))
        self._wake.set()

    def _note_reconnect(self) -> None:
        self._fail("the connection broke")

    def _fail(self, why: str) -> None:
        self._fault = self._fault or why
        self._wake.set()

    def _check(self) -> None:
        if self._fault:
            raise unreachable(f"Failed to follow stream {self._stream}: {self._fault}")
