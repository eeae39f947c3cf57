"""Pulling from a durable consumer: in batches, never more than there is room for.

The client keeps account of what it asked for. A pull ends by itself after 30
seconds; while it waits, the server sends heartbeats. When those stop, the pull
is dead whatever the connection looks like, and everything is set up anew.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from nats.errors import Error as NatsError

from meshkit.bus_delivery import Delivery
from meshkit.bus_link import Link
from meshkit.bus_messages import ConsumerSpec
from meshkit.bus_wire import WireMessage
from meshkit.errors import MeshError
from meshkit.log import Log
from meshkit.time_limit import within

_NANOSECONDS: Final = 1_000_000_000
_EXPIRES_SECONDS: Final = 30.0
_HEARTBEAT_SECONDS: Final = 5.0
# Two heartbeats may be late before the pull counts as dead.
_SILENCE_SECONDS: Final = 2.5 * _HEARTBEAT_SECONDS
_MAX_BATCH: Final = 256
# With so much of the room taken, a pull waits for more room: single ones cost
# five times what they cost in batches.
_WORTH_A_PULL: Final = 8
_SETUP_PAUSE_SECONDS: Final = 0.5
_DRAIN_SECONDS: Final = 2.0


class Consumption:
    """The deliveries of one consumer to this process."""

    def __init__(
        self,
        link: Link,
        spec: ConsumerSpec,
        *,
        set_up: Callable[[], Awaitable[None]],
        max_in_flight: Callable[[], int],
        settled: Callable[[], None],
        log: Log | None,
    ) -> None:
        """`set_up` makes the consumer where it is missing; `settled` is told of every free slot."""
        self._link: Final = link
        self._spec: Final = spec
        self._set_up: Final = set_up
        self._max_in_flight: Final = max_in_flight
        self._on_settled: Final = settled
        self._log: Final = log
        self._next_subject: Final = f"$JS.API.CONSUMER.MSG.NEXT.{spec.stream}.{spec.durable}"
        self._wake: Final = asyncio.Event()
        self._ready: deque[Delivery] = deque()
        self._out: dict[int, Delivery] = {}  # by stream sequence: given out, or ready to be
        self._inbox = ""
        self._subscription: Any = None
        self._asked_for = 0  # messages that open pulls may still bring
        self._heard_at = 0.0
        self._stale = True  # the inbox must be renewed
        self._lost = False  # the consumer must be looked after
        self._forget_reconnect: Callable[[], None] = lambda: None

    def nudge(self) -> None:
        """Looks again whether there is room."""
        self._wake.set()

    async def open(self) -> None:
        """Makes the consumer, and begins to listen."""
        self._forget_reconnect = self._link.on_reconnect(self._restart)
        await self._set_up()

    async def next(self) -> Delivery:
        """The next delivery, as soon as there is one."""
        while True:
            if self._ready:
                return self._ready.popleft()
            self._wake.clear()
            await self._pull()
            await self._wait()

    async def close(self) -> None:
        """Stops listening; what was pulled and not given out goes to others at once."""
        self._forget_reconnect()
        subscription, self._subscription = self._subscription, None
        if subscription is None or not self._link.is_up:
            return
        try:
            with within(_DRAIN_SECONDS):
                await subscription.drain()  # what is on its way arrives first
            while self._ready:
                await self._ready.popleft().not_now(0)
        except (MeshError, NatsError, OSError, TimeoutError):
            pass  # the connection is gone: they are delivered again after the wait

    async def _pull(self) -> None:
        if not self._link.is_up:
            return
        if self._lost:
            await self._recover()
        try:
            if self._stale:
                await self._listen_anew()
            limit = self._max_in_flight()
            room = min(limit - len(self._out), _MAX_BATCH) - self._asked_for
            if room < 1 or (self._asked_for == 0 and room < limit // _WORTH_A_PULL):
                return
            if self._asked_for and room < limit // 2:
                return  # the open pull still has places
            self._asked_for += room
            self._heard_at = time.monotonic()
            request = {
                "batch": room,
                "expires": round(_EXPIRES_SECONDS * _NANOSECONDS),
                "idle_heartbeat": round(_HEARTBEAT_SECONDS * _NANOSECONDS),
            }
            self._link.client.send(self._next_subject, json.dumps(request).encode(), self._inbox)
        except NatsError:
            self._stale = True

    async def _listen_anew(self) -> None:
        # A new inbox: whatever an earlier pull still brings goes nowhere, and is
        # delivered again after the consumer's wait.
        await self._stop_listening()
        self._inbox = self._link.client.new_inbox()
        self._asked_for = 0
        self._subscription = await self._link.client.listen(self._inbox, self._take)
        self._stale = False

    async def _stop_listening(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None and not self._link.client.is_closed:
            await subscription.unsubscribe()

    async def _wait(self) -> None:
        try:
            with within(_HEARTBEAT_SECONDS):
                await self._wake.wait()
            return
        except TimeoutError:
            pass
        now = time.monotonic()
        for delivery in [each for each in self._out.values() if each.expires_at < now]:
            self._release(delivery.sequence)  # the server gives it to somebody else by now
        if self._asked_for and now - self._heard_at > _SILENCE_SECONDS and self._link.is_up:
            if self._log:
                self._log.warning("nats.consumer_silent", consumer=self._spec.durable)
            self._lost = True

    async def _recover(self) -> None:
        self._stale = True
        # Also after success: a consumer that is refused again and again is not to spin.
        await asyncio.sleep(_SETUP_PAUSE_SECONDS)
        try:
            await self._set_up()
            self._lost = False
        except MeshError as error:
            if self._log:
                self._log.warning(
                    "nats.consumer_lost", consumer=self._spec.durable, cause=error.message
                )
            self._wake.set()

    def _restart(self) -> None:
        self._stale = True
        self._wake.set()

    def _take(self, message: WireMessage) -> None:
        self._heard_at = time.monotonic()
        if not message.status:
            self._asked_for = max(0, self._asked_for - 1)
            delivery = Delivery(
                self._link, message, self._spec.acknowledge_wait_seconds, self._release
            )
            known = self._out.get(delivery.sequence)
            self._out[delivery.sequence] = delivery
            if known is not None and known in self._ready:
                self._ready.remove(known)  # nobody looked at the former delivery
            self._ready.append(delivery)
            self._wake.set()
        elif message.status != "100":  # 100 is a heartbeat
            self._note_end(message)

    def _note_end(self, message: WireMessage) -> None:
        left = message.headers.get("Nats-Pending-Messages")
        if left is not None:  # the pull expired with this much of it unused
            self._asked_for = max(0, self._asked_for - int(left))
        else:  # nobody there (503), or the consumer is gone or moved (409)
            self._asked_for = 0
            self._lost = True
        self._wake.set()

    def _release(self, sequence: int) -> None:
        if self._out.pop(sequence, None) is not None:
            self._on_settled()
