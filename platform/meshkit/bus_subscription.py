"""Listening to plain NATS messages: quick, and not durable."""

import asyncio
from collections import deque
from typing import Any, Final

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from meshkit.bus_link import Link, subscribe, unreachable
from meshkit.bus_messages import StoredMessage, stored_message
from meshkit.errors import DependencyUnavailable, QueueFull

# How long the server may take to confirm that it knows of a subscription.
_FLUSH_SECONDS: Final = 5


class Subscription:
    """The messages of a subject from now on, as an async iterator.

    Messages that arrive while the connection is down are lost, and `gaps`
    counts up; with `raise_on_gap` the iterator raises DependencyUnavailable
    then, so that its reader can read elsewhere what it missed. A reader that
    falls behind by more than the buffer gets QueueFull.
    """

    def __init__(self, link: Link, subject: str, *, max_waiting: int, raise_on_gap: bool) -> None:
        self._link: Final = link
        self._subject: Final = subject
        self._max_waiting: Final = max_waiting
        self._raise_on_gap: Final = raise_on_gap
        self._messages: deque[Msg] = deque()
        self._wake: Final = asyncio.Event()
        self.dropped = 0
        self._closed = False
        self._subscription: Any = None
        self._forget = link.on_reconnect(self._note_gap)
        self.gaps = 0

    async def open(self) -> None:
        """Begins to listen; the server knows of it when this returns."""
        try:
            if not self._link.is_up:
                raise ConnectionError
            self._subscription = await subscribe(self._link.client, self._subject, self._take)
            await self._link.client.flush(timeout=_FLUSH_SECONDS)
        except (NatsError, OSError, TimeoutError) as error:
            await self.close()
            raise unreachable(f"Failed to listen to {self._subject}") from error

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
        if self._subscription is not None and not self._link.client.is_closed:
            await self._subscription.unsubscribe()

    def _check(self) -> None:
        if self.dropped:
            raise QueueFull(
                f"The reader of {self._subject} fell behind by {self.dropped} messages.",
                retry_after_seconds=0.0,
            )
        if self.gaps and self._raise_on_gap:
            raise DependencyUnavailable(
                f"Messages of {self._subject} may have been missed while NATS was away.",
                metadata={"dependency": "nats"},
            )

    def _note_gap(self) -> None:
        self.gaps += 1
        self._wake.set()

    async def _take(self, message: Msg) -> None:
        if len(self._messages) >= self._max_waiting:
            self.dropped += 1
        else:
            self._messages.append(message)
        self._wake.set()
