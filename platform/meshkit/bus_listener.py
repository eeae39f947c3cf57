"""Hearing plain NATS signals: they say something by their subject alone, and may be missed."""

from collections.abc import Callable
from typing import Any, Final

from nats.errors import Error as NatsError

from meshkit.bus_link import Link, unreachable
from meshkit.bus_wire import WireMessage

# How long the server may take to confirm that it knows of a subscription.
_FLUSH_SECONDS: Final = 5


class Listener:
    """Calls back for each signal. Cheaper than a Subscription, and without a buffer."""

    def __init__(
        self,
        link: Link,
        subject: str,
        hear: Callable[[str], None],
        missed: Callable[[], None],
    ) -> None:
        """The arguments are those of `Bus.listen`."""
        self._link: Final = link
        self._subject: Final = subject
        self._hear: Final = hear
        self._forget_reconnect: Final = link.on_reconnect(missed)
        self._subscription: Any = None

    async def open(self) -> None:
        """Begins to listen; the server knows of it when this returns."""
        try:
            if not self._link.is_up:
                raise ConnectionError
            self._subscription = await self._link.client.listen(self._subject, self._take)
            await self._link.client.flush(timeout=_FLUSH_SECONDS)
        except (NatsError, OSError, TimeoutError) as error:
            await self.close()
            raise unreachable(f"Failed to listen to {self._subject}") from error

    async def close(self) -> None:
        """Stops listening."""
        self._forget_reconnect()
        subscription, self._subscription = self._subscription, None
        if subscription is not None and not self._link.client.is_closed:
            await subscription.unsubscribe()

    def _take(self, message: WireMessage) -> None:
        self._hear(message.subject)
