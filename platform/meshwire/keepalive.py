"""Finds out that the other end of a connection has gone without a word."""

import asyncio
from typing import Final, Protocol


class Watched(Protocol):
    """A connection, as it is needed here."""

    # When something came last, by the loop's clock.
    heard_at: float

    def is_watched(self) -> bool:
        """Whether somebody waits for the other end."""
        ...

    def ask(self) -> None:
        """Pings the other end."""
        ...

    def give_up(self) -> None:
        """The other end does not answer."""
        ...


class Keepalive:
    """Pings an end that is silent while somebody waits for it."""

    def __init__(
        self,
        connection: Watched,
        loop: asyncio.AbstractEventLoop,
        *,
        seconds: float,
        timeout_seconds: float,
    ) -> None:
        """An end that is silent for `seconds` is pinged, and gone after `timeout_seconds` more."""
        self.sent = 0
        self._connection: Final = connection
        self._loop: Final = loop
        self._seconds: Final = seconds
        self._timeout_seconds: Final = timeout_seconds
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """The connection is there."""
        self._timer = self._loop.call_later(self._seconds, self._look)

    def end(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        connection = self._connection
        silent = self._loop.time() - connection.heard_at
        if silent < self._seconds or not connection.is_watched():
            left = max(self._seconds - silent, self._timeout_seconds)
            self._timer = self._loop.call_later(left, self._look)
            return
        self.sent += 1
        connection.ask()
        self._timer = self._loop.call_later(
            self._timeout_seconds, self._look_again, connection.heard_at
        )

    def _look_again(self, heard_at: float) -> None:
        if self._connection.heard_at == heard_at:
            self._connection.give_up()
        else:
            self._look()
