"""Pulling from many durable consumers over one inbox, each as much as is asked for and no more."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from nats.errors import Error as NatsError

from meshkit.bus_delivery import Delivery
from meshkit.bus_link import Link, unreachable
from meshkit.bus_wire import WireMessage
from meshkit.time_limit import within

_NANOSECONDS: Final = 1_000_000_000
# How much later than asked for a pull may end before it counts as dead.
_LATE_SECONDS: Final = 1.0
_DRAIN_SECONDS: Final = 2.0
_NO_RESPONDERS: Final = "503"
_CONSUMER_DELETED: Final = "Consumer Deleted"


@dataclass(slots=True)
class _Pull:
    number: int
    left: int
    dead_at: float


class Puller:
    """Has at most one pull open for each consumer, so that it is known what each may still bring.

    A pull ends when it is used up; when its time is over; when the consumer is
    missing or moves; when the connection breaks; and, whatever the connection
    looks like, soon after its time. What an earlier pull still brings after
    that is delivered like anything else.
    """

    def __init__(
        self,
        link: Link,
        stream: str,
        wait_seconds: float,
        deliver: Callable[[Delivery], None],
        ended: Callable[[str, bool], None],
    ) -> None:
        """The arguments are those of `Bus.puller`."""
        self._link: Final = link
        self._stream: Final = stream
        self._wait_seconds: Final = wait_seconds
        self._deliver: Final = deliver
        self._ended: Final = ended
        self._pulls: dict[str, _Pull] = {}
        self._consumers: dict[int, str] = {}  # by the number of their open pull
        self._count = 0
        self._heard_at = time.monotonic()
        self._inbox = ""
        self._subscription: Any = None
        self._forget_reconnect: Callable[[], None] = lambda: None

    @property
    def silent_seconds(self) -> float:
        """For how long nothing has come: neither a message nor the end of a pull."""
        return time.monotonic() - self._heard_at

    async def open(self) -> None:
        """Begins to listen."""
        self._forget_reconnect = self._link.on_reconnect(self._end_all)
        await self.restart()

    async def restart(self) -> None:
        """Ends every pull, and listens anew: for one who waits in vain for what must be there.

        What the former pulls still bring is delivered again after the consumer's wait.
        """
        former, self._subscription = self._subscription, None
        try:
            if former is not None:
                await former.unsubscribe()
            self._inbox = self._link.client.new_inbox()
            self._subscription = await self._link.client.listen(f"{self._inbox}.*", self._take)
        except NatsError as error:
            raise unreachable("Failed to listen for what is pulled") from error
        self._end_all()

    async def ask(self, consumer: str, places: int, expires_seconds: float) -> None:
        """Opens a pull of at most `places` messages. The consumer must have none open.

        Expiry is so near that heartbeats would tell nothing sooner.
        """
        assert consumer not in self._pulls, "one pull at a time"
        self._count += 1
        dead_at = time.monotonic() + expires_seconds + _LATE_SECONDS
        self._pulls[consumer] = _Pull(self._count, places, dead_at)
        self._consumers[self._count] = consumer
        request = f'{{"batch":{places},"expires":{round(expires_seconds * _NANOSECONDS)}}}'
        try:
            if not self._link.is_up:
                raise ConnectionError
            self._link.client.send(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{consumer}",
                request.encode(),
                f"{self._inbox}.{self._count}",
            )
        except (NatsError, OSError):
            self._end(consumer, is_missing=False)

    def end_overdue(self) -> None:
        """Ends the pulls of whose end the server should have told. To be called now and then."""
        now = time.monotonic()
        for consumer, pull in tuple(self._pulls.items()):
            if pull.dead_at < now:
                self._end(consumer, is_missing=False)

    async def close(self) -> None:
        """Stops listening; what is on its way is delivered first."""
        self._forget_reconnect()
        self._forget_reconnect = lambda: None
        subscription, self._subscription = self._subscription, None
        if subscription is None or not self._link.is_up:
            return
        try:
            with within(_DRAIN_SECONDS):
                await subscription.drain()
        except (NatsError, OSError, TimeoutError):
            pass  # the connection is gone: it is delivered again after the wait

    def _take(self, message: WireMessage) -> None:
        self._heard_at = time.monotonic()
        if message.status:
            self._note_end(message)
            return
        delivery = Delivery(self._link, message, self._wait_seconds, _ignore)
        pull = self._pulls.get(delivery.consumer)
        if pull is not None:
            pull.left -= 1
            if not pull.left:
                self._forget(delivery.consumer)
        self._deliver(delivery)

    def _note_end(self, message: WireMessage) -> None:
        consumer = self._consumers.get(int(message.subject.rpartition(".")[2]))
        if consumer is not None:  # else it is long forgotten
            is_missing = message.status == _NO_RESPONDERS
            self._end(consumer, is_missing or message.description == _CONSUMER_DELETED)

    def _end_all(self) -> None:
        for consumer in tuple(self._pulls):
            self._end(consumer, is_missing=False)

    def _end(self, consumer: str, is_missing: bool) -> None:
        self._forget(consumer)
        self._ended(consumer, is_missing)

    def _forget(self, consumer: str) -> None:
        del self._consumers[self._pulls.pop(consumer).number]


def _ignore(sequence: int) -> None:
    """Whoever asks keeps its own account."""
