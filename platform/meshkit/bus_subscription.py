"""Listening to plain NATS messages: quick, and not durable."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from nats.errors import Error as NatsError

from meshkit.bus_link import Link, unreachable
from meshkit.bus_messages import StoredMessage, stored_message
from meshkit.bus_wire import WireMessage
from meshkit.errors import DependencyUnavailable, QueueFull

# How long the server may take to confirm that it knows of a subscription.
_FLUSH_SECONDS: Final = 5


class Subscription:
    """The messages of some subjects from now on, as an async iterator.

    Messages that arrive while the connection is down are lost, and `gaps`
    counts up; with `raise_on_gap` the iterator raises DependencyUnavailable
    then, so that its reader can read elsewhere what it missed. A reader that
    falls behind by more than the buffer gets QueueFull.
    """

    def __init__(
        self, link: Link, subjects: Sequence[str], *, max_waiting: int, raise_on_gap: bool
    ) -> None:
        self._link: Final = link
        self._subjects: Final = subjects
        self._max_waiting: Final = max_waiting
        self._raise_on_gap: Final = raise_on_gap
        self._messages: deque[WireMessage] = deque()
        self._wake: Final = asyncio.Event()
        self.dropped = 0
        self._closed = False
        self._subscriptions: list[Any] = []
        self._forget = link.on_reconnect(self._note_gap)
        self.gaps = 0

    async def open(self, *, confirmed: bool) -> None:
        """Begins to listen; where `confirmed`, the server knows of it when this returns."""
        try:
            if not self._link.is_up:
                raise ConnectionError
            for subject in self._subjects:
                self._subscriptions.append(await self._link.client.listen(subject, self._take))
            if confirmed:
                await self._link.client.flush(timeout=_FLUSH_SECONDS)
        except (NatsError, OSError, TimeoutError) as error:
            await self.close()
            raise unreachable(f"Failed to listen to {self._named}") from error

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> StoredMessage:
        while not self._messages:
            if self._closed:
                raise StopAsyncIteration
            self._check()
            self._wake.clear()
            await self._wake.wait()
        self._check()
        return stored_message(self._messages.popleft())

    async def close(self) -> None:
        """Stops listening; who iterates comes to the end."""
        if self._closed:
            return
        self._closed = True
        self._messages.clear()
        self._forget()
        self._wake.set()
        for each in self._subscriptions:
            if not self._link.client.is_closed:
                await each.unsubscribe()

    @property
    def _named(self) -> str:
        return " and ".join(self._subjects)

    def _check(self) -> None:
        if self.dropped:
            raise QueueFull(
                f"The reader of {self._named} fell behind by {self.dropped} messages.",
                retry_after_seconds=0.0,
            )
        if self.gaps and self._raise_on_gap:
            raise DependencyUnavailable(
                f"Messages of {self._named} may have been missed while NATS was away.",
                metadata={"dependency": "nats"},
            )

    def _note_gap(self) -> None:
        self.gaps += 1
        self._wake.set()

    def _take(self, message: WireMessage) -> None:
        if len(self._messages) >= self._max_waiting:
            self.dropped += 1
        else:
            self._messages.append(message)
        self._wake.set()
