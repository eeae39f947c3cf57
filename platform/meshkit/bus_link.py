"""One connection to NATS: requests with answers, and what to do while it is down."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Self, cast

from nats.errors import Error as NatsError

from meshkit import deadline
from meshkit.bus_client import WireClient
from meshkit.bus_wire import WireMessage
from meshkit.errors import DependencyUnavailable, TooLarge
from meshkit.log import Log
from meshkit.time_limit import within

# How long the first connection may take.
_CONNECT_SECONDS: Final = 10.0
_RECONNECT_WAIT_SECONDS: Final = 0.2
# One try: a live server acknowledges in a millisecond, with fsync in ten.
_TRY_SECONDS: Final = 5.0
# All tries together, where the caller has no deadline of its own.
_GIVE_UP_SECONDS: Final = 30.0
_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 1.0

_NO_RESPONDERS: Final = "503"


class NotAnswered(Exception):
    """One try brought no answer: the connection broke, or nobody was there, or it took too long."""


class Link:
    """The connection. It reconnects for ever; requests under way fail at once when it breaks."""

    def __init__(self, client: WireClient, log: Log | None) -> None:
        self.client: Final = client
        self._log: Final = log
        self._prefix = ""
        self._count = 0
        self._waiting: dict[str, asyncio.Future[WireMessage]] = {}
        self._connected: Final = asyncio.Event()
        # By keys of their own: each task that somebody waits for has one.
        self._on_reconnect: Final[dict[object, Callable[[], None]]] = {}
        self._server = ""
        # Whether the last reconnect led to the process that had been there before.
        self.is_same_server = True

    @classmethod
    async def open(cls, url: str, *, name: str, log: Log | None = None) -> Self:
        """Connects; DependencyUnavailable where nobody answers within ten seconds."""
        client = WireClient()
        link = cls(client, log)
        connecting = client.connect(
            url,
            name=name,
            max_reconnect_attempts=-1,
            reconnect_time_wait=cast(int, _RECONNECT_WAIT_SECONDS),
            connect_timeout=2,
            ping_interval=15,
            max_outstanding_pings=2,
            error_cb=link.note_error,
            disconnected_cb=link.note_disconnect,
            reconnected_cb=link.note_reconnect,
        )
        try:
            with within(_CONNECT_SECONDS):
                await connecting
        except (OSError, NatsError, TimeoutError) as error:
            raise unreachable(f"Failed to connect to NATS at {url}") from error
        link._prefix = client.new_inbox() + "."
        await client.listen(link._prefix + "*", link.take_answer)
        link._note_server()
        link._connected.set()
        return link

    async def close(self) -> None:
        """Sends what is still to be sent, and ends the connection."""
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(NotAnswered("the connection was closed"))
        if self.client.is_connected:
            with suppress(NatsError, OSError, TimeoutError):  # nothing acknowledged is lost
                await self.client.flush(timeout=2)
        with suppress(OSError):  # what could not be sent any more while NATS was away
            await self.client.close()

    @property
    def is_up(self) -> bool:
        """Whether there is a connection now."""
        return self.client.is_connected

    def on_reconnect(self, call: Callable[[], None]) -> Callable[[], None]:
        """Calls `call` after every reconnect; gives a function that ends that."""
        key = object()
        self._on_reconnect[key] = call

        def forget() -> None:
            del self._on_reconnect[key]

        return forget

    async def ask(
        self,
        subject: str,
        payload: bytes,
        *,
        head: bytes = b"",
        seconds: float = _TRY_SECONDS,
    ) -> WireMessage:
        """One request, one answer; NotAnswered where there is none within `seconds`."""
        if not self.is_up:
            raise NotAnswered("there is no connection")
        self._check_size(payload, head)
        self._count += 1
        token = str(self._count)
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[WireMessage] = loop.create_future()
        self._waiting[token] = waiter
        timer = loop.call_later(seconds, _expire, waiter, seconds)
        try:
            self.client.send(subject, payload, self._prefix + token, head)
            await self.client.make_room()
            return await waiter
        except NatsError as error:
            raise NotAnswered(str(error) or type(error).__name__) from error
        finally:
            timer.cancel()
            del self._waiting[token]

    async def tell(self, subject: str, payload: bytes, head: bytes = b"") -> None:
        """Sends without an answer. Kept for a moment while the connection is down."""
        self._check_size(payload, head)
        try:
            self.client.send(subject, payload, head=head)
            await self.client.make_room()
        except NatsError as error:
            raise unreachable(f"Failed to signal {subject}: {error}") from error

    def tries(self, what: str) -> "Tries":
        """Counts the tries of one request, until it is answered or time is up."""
        return Tries(self, what)

    async def ask_json(self, subject: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """A request to the JetStream API, tried until it is answered."""
        tries = self.tries(f"ask NATS for {subject}")
        payload = json.dumps(request).encode()
        while True:
            try:
                answer = await self.ask(subject, payload, seconds=tries.seconds())
                return cast(dict[str, Any], json.loads(answer.data))
            except NotAnswered as error:
                await tries.again(error)

    async def wait_until_up(self, seconds: float) -> None:
        """Returns when there is a connection, or after `seconds`."""
        if self.is_up:
            return
        # The client knows that it lost its server a moment before it says so. Who asked
        # again without waiting would keep it from saying so.
        self._connected.clear()
        try:
            with within(seconds):
                await self._connected.wait()
        except TimeoutError:
            pass

    def _check_size(self, payload: bytes, head: bytes) -> None:
        # The server counts headers too, and ends the connection of who sends too much.
        limit = self.client.max_payload
        size = len(payload) + len(head)
        if size > limit:
            raise TooLarge(
                f"A message of {size} bytes is over the limit of {limit} bytes.",
                metadata={"limit_bytes": str(limit), "size_bytes": str(size)},
            )

    def take_answer(self, message: WireMessage) -> None:
        """Hands an answer to who waits for it."""
        waiter = self._waiting.get(message.subject[len(self._prefix) :])
        if waiter is None or waiter.done():
            return
        if message.status == _NO_RESPONDERS:
            waiter.set_exception(NotAnswered("nobody answers there"))
        else:
            waiter.set_result(message)

    async def note_disconnect(self) -> None:
        """Fails what waits: the answers to it are lost."""
        self._connected.clear()
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(NotAnswered("the connection broke"))
        if self._log and not self.client.is_closed:
            self._log.warning("nats.disconnected")

    async def note_reconnect(self) -> None:
        """Tells who wants to know."""
        self._note_server()
        self._connected.set()
        if self._log:
            self._log.info("nats.reconnected")
        for call in tuple(self._on_reconnect.values()):
            call()

    def _note_server(self) -> None:
        # A server chooses its id when it starts. nats-py keeps it to itself.
        former, self._server = self._server, cast(Any, self.client)._server_info["server_id"]
        self.is_same_server = former == self._server

    async def note_error(self, error: Exception) -> None:
        """Errors of the connection that no request is to blame for."""
        if self._log and self._connected.is_set():
            self._log.warning("nats.error", cause=str(error) or type(error).__name__)


class Tries:
    """How long a request is tried again: until the caller's deadline, or 30 seconds."""

    def __init__(self, link: Link, what: str) -> None:
        left = deadline.remaining_seconds()
        self._link: Final = link
        self._what: Final = what
        self._give_up: Final = time.monotonic() + (_GIVE_UP_SECONDS if left is None else left)
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self.count = 1

    def seconds(self) -> float:
        """How long the next try may take."""
        return max(0.001, min(_TRY_SECONDS, self._give_up - time.monotonic()))

    async def again(self, error: Exception) -> None:
        """Returns when it is time for another try; DependencyUnavailable when time is up."""
        left = self._give_up - time.monotonic()
        if left <= 0 or self._link.client.is_closed:
            raise unreachable(
                f"Failed to {self._what} after {self.count} tries: {error}"
            ) from error
        self.count += 1
        if self._link.is_up:
            await asyncio.sleep(min(left, self._pause_seconds * random.uniform(0.5, 1.0)))
            self._pause_seconds = min(self._pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
        else:
            await self._link.wait_until_up(left)


def _expire(waiter: "asyncio.Future[WireMessage]", seconds: float) -> None:
    if not waiter.done():
        waiter.set_exception(NotAnswered(f"no answer within {seconds:.3g} seconds"))


def unreachable(text: str) -> DependencyUnavailable:
    """The error for `text`, which lacks only its full stop."""
    return DependencyUnavailable(f"{text}.", metadata={"dependency": "nats"})
