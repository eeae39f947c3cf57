"""A gRPC server on the event loop itself: no thread, and one wake for a message."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from random import uniform
from typing import Any, Final, cast

from meshwire import frames
from meshwire.connecting import connected
from meshwire.connection import Connection
from meshwire.frames import ConnectionFault, StreamFault
from meshwire.headers import Headers, Names
from meshwire.server_call import ServerCall
from meshwire.stream import Stream

_AGE_SPREAD: Final = 0.1
# By then a client has read that it is to leave, or has left.
_LEAVE_SECONDS: Final = 1.0
_BACKLOG: Final = 1024
_ACCEPT_PAUSE_SECONDS: Final = 0.1
_LEAVING: Final = b"leaving!"
# How many pings too many a client may send.
_MOST_EARLY_PINGS: Final = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server does to its connections. In seconds where not said otherwise."""

    most_message_bytes: int
    most_streams: int = 4096
    # A client that is silent is pinged after the first, and cut off after the second.
    keepalive_seconds: float = 60.0
    keepalive_timeout_seconds: float = 10.0
    # Clients may ping this often while nothing is sent to them.
    least_ping_seconds: float = 8.0
    # A connection is to be left at this age, give or take a tenth, and ends after the other.
    most_age_seconds: float = 600.0
    most_age_grace_seconds: float = 900.0
    # How long a client may take for its part of the TLS handshake.
    handshake_seconds: float = 10.0
    # How long handlers that are cancelled at the end may take for it.
    cancel_seconds: float = 5.0


class Server:
    """Serves handlers as grpc's `method_handlers` are."""

    def __init__(self, limits: Limits) -> None:
        self.limits: Final = limits
        # By their numbers, which `listens_on` has too; the oldest first.
        self.connections: Final[dict[int, ServerConnection]] = {}
        self.listens_on: Final[dict[int, tuple[Any, ...]]] = {}
        self._numbers: Final = count(1)
        self._handlers: Final[dict[str, Any]] = {}
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._listener: socket.socket | None = None
        self._tls: Callable[[], ssl.SSLContext] | None = None
        # Connections until their certificates are exchanged.
        self._welcomes: Final[set[asyncio.Task[None]]] = set()
        self._ended: Final = asyncio.Event()
        self.is_stopping = False
        # Calls that began, that ended well and that did not; when the last one began, by the
        # loop's clock.
        self.calls_started = 0
        self.calls_succeeded = 0
        self.calls_failed = 0
        self.last_call_at: float | None = None

    def add(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Serves the methods of a service, by their names."""
        for method, handler in handlers.items():
            self._handlers[f"/{service}/{method}"] = handler

    def handler(self, path: str) -> Any:
        """What serves a method; None where nothing does."""
        return self._handlers.get(path)

    async def listen(self, address: str, tls: Callable[[], ssl.SSLContext] | None = None) -> int:
        """Takes connections from now on; the port. Raises OSError where that cannot be had.

        `tls`: asked at each connection, so that certificates may be replaced.
        """
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        dual = family is socket.AF_INET6 and socket.has_dualstack_ipv6()
        listener = socket.create_server(
            (host, int(port)), family=family, backlog=_BACKLOG, dualstack_ipv6=dual
        )
        listener.setblocking(False)
        self.listens_on[next(self._numbers)] = listener.getsockname()
        self._listener, self._tls = listener, tls
        self._accept_again()
        return listener.getsockname()[1]

    def _accept(self, listener: socket.socket) -> None:
        """Takes in all who have connected, as many as may wait at a time."""
        loop = asyncio.get_running_loop()
        for _ in range(_BACKLOG):
            try:
                accepted, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError:
                # No file is left for it, or the client has gone again.
                loop.remove_reader(listener)
                loop.call_later(_ACCEPT_PAUSE_SECONDS, self._accept_again)
                return
            welcome = loop.create_task(self._welcome(accepted))
            self._welcomes.add(welcome)
            welcome.add_done_callback(self._welcomed)

    def _accept_again(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def _listen_no_more(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            # Who has connected may have sent a call: to close on them would take it back.
            self._accept(listener)
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()

    def _welcomed(self, welcome: asyncio.Task[None]) -> None:
        self._welcomes.discard(welcome)
        self._ended.set()

    async def _welcome(self, accepted: socket.socket) -> None:
        tls = self._tls
        # A client that does not keep to TLS, or goes again, is nobody's fault here.
        with suppress(OSError, TimeoutError):
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await connected(
                partial(asyncio.get_running_loop().connect_accepted_socket, sock=accepted),
                partial(ServerConnection, self),
                tls() if tls is not None else None,
                handshake_seconds=self.limits.handshake_seconds,
            )

    async def stop(self, grace_seconds: float) -> None:
        """Takes no more connections, has clients leave, and ends the rest after the grace."""
        self.is_stopping = True
        self._listen_no_more()
        for connection in tuple(self.connections.values()):
            connection.leave()
        # Who has just come is told to leave as soon as it is welcomed; who takes its time is not.
        late = asyncio.get_running_loop().call_later(_LEAVE_SECONDS, self._welcome_no_more)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                while self.connections or self._welcomes:
                    self._ended.clear()
                    await self._ended.wait()
        late.cancel()
        self._welcome_no_more()
        if self._welcomes:
            await asyncio.wait(tuple(self._welcomes))
        for connection in tuple(self.connections.values()):
            connection.abort(frames.NO_ERROR, "the server has stopped")
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=self.limits.cancel_seconds)

    def _welcome_no_more(self) -> None:
        for welcome in tuple(self._welcomes):
            welcome.cancel()

    def gone(self, connection: "ServerConnection") -> None:
        """A client has left."""
        self.connections.pop(connection.id, None)
        self._ended.set()

    def began(self, task: asyncio.Task[None]) -> None:
        """A handler runs."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def take_in(self, connection: "ServerConnection") -> int:
        """A connection is there: its number."""
        number = next(self._numbers)
        self.connections[number] = connection
        return number


class ServerConnection(Connection):
    """One connection of a client."""

    def __init__(self, server: Server) -> None:
        limits = server.limits
        super().__init__(
            {frames.MAX_CONCURRENT_STREAMS: limits.most_streams},
            keepalive_seconds=limits.keepalive_seconds,
            keepalive_timeout_seconds=limits.keepalive_timeout_seconds,
        )
        self.server: Final = server
        # Among the server's sockets.
        self.id = 0
        # Who is at the other end, as gRPC writes it; the names in its certificate.
        self.peer = "unknown"
        # As `headers.read_request` has them.
        self.known_names: Final[set[Names]] = set()
        self.peer_identities: Sequence[bytes] | None = None
        # Streams that were taken, and those of them that did not end as they should.
        self.streams_started = 0
        self.streams_failed = 0
        self.messages_sent = 0
        self.messages_received = 0
        # When the last call and the last message came, by the loop's clock.
        self.last_call_at: float | None = None
        self.last_message_at: float | None = None
        self._preface_left = frames.PREFACE
        # The last stream that was taken, and the last of which something came.
        self._last = 0
        self._last_seen = 0
        self._running = 0
        # Streams after this one are not taken any more.
        self._last_allowed: int = frames.LAST_STREAM
        self._is_leaving = False
        self._is_left = False
        self._early_pings = 0
        self._pinged_at = 0.0
        self._sent_before_ping: int = 0
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where it runs."""
        return self._loop

    @property
    def last_taken(self) -> int:
        """The last stream that was taken in."""
        return self._last

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        super().connection_made(transport)
        self.id = self.server.take_in(self)
        self.peer = _address(self.extra_info("peername"))
        self.peer_identities = _names(self.extra_info("ssl_object"))
        limits = self.server.limits
        age = limits.most_age_seconds * uniform(1 - _AGE_SPREAD, 1 + _AGE_SPREAD)
        self._timers.append(self._loop.call_later(age, self._grow_old))
        if self.server.is_stopping:
            self.leave()

    def ended(self, why: str) -> None:
        """The client has gone."""
        self.server.gone(self)
        for timer in self._timers:
            timer.cancel()

    def pause_writing(self) -> None:
        """The client reads too slowly: what it asks meanwhile waits, and so do the answers."""
        super().pause_writing()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It has read what there was."""
        self._transport.resume_reading()
        super().resume_writing()

    def is_idle(self, number: int) -> bool:
        """Whether the client has not begun it: even ones are never begun."""
        return number > self._last_seen or number % 2 == 0

    def headers_received(self, number: int, headers: Headers, *, ended: bool) -> None:
        """A call begins, or a client ends one by trailers."""
        stream = self.streams.get(number)
        if stream is not None:
            if stream.ended_there:
                raise StreamFault(frames.STREAM_CLOSED, "headers after the end")
            stream.begin(headers, ended=ended)
            return
        if number % 2 == 0:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a stream that no client begins")
        if number <= self._last_seen:
            raise StreamFault(frames.STREAM_CLOSED, "a stream that has ended")
        self._last_seen = number
        if number > self._last_allowed:
            return
        self._last = number
        limits = self.server.limits
        # Handlers of calls that were broken off count until they have ended.
        if max(len(self.streams), self._running) >= limits.most_streams:
            raise StreamFault(frames.REFUSED_STREAM, "too many calls at a time")
        call = self.streams[number] = ServerCall(self, number, limits.most_message_bytes)
        self.streams_started += 1
        self.server.calls_started += 1
        self.last_call_at = self.server.last_call_at = self.heard_at
        call.begin(headers, ended=ended)

    def auth_context(self) -> dict[str, list[bytes]]:
        """What the client's certificate says, as gRPC names it; empty in plain text."""
        secure = self.extra_info("ssl_object")
        if secure is None:
            return {}
        pem = ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True))
        return {
            "x509_pem_cert": [pem.encode()],
            "x509_subject_alternative_name": list(self.peer_identities or ()),
        }

    def began(self, task: asyncio.Task[None]) -> None:
        """The handler of a call runs."""
        self._running += 1
        task.add_done_callback(self._has_ended)
        self.server.began(task)

    def count_message(self) -> None:
        """A request came."""
        self.messages_received += 1
        self.last_message_at = self.heard_at

    def count_end(self, *, failed: bool) -> None:
        """A call has its status, or never gets one."""
        if failed:
            self.server.calls_failed += 1
        else:
            self.server.calls_succeeded += 1

    def pinged(self) -> None:
        """The client has pinged. Raises ConnectionFault where it does so all the time."""
        now = self._loop.time()
        # A client may ping as often as something is sent to it: it may ask how long that takes.
        sent = self.messages_sent + self.streams_started - len(self.streams)
        is_early = now - self._pinged_at < self.server.limits.least_ping_seconds
        self._early_pings = (
            self._early_pings + 1 if is_early and sent == self._sent_before_ping else 0
        )
        self._pinged_at, self._sent_before_ping = now, sent
        if self._early_pings > _MOST_EARLY_PINGS:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "too_many_pings")

    def leave(self) -> None:
        """Has the client go elsewhere; what it has begun goes on, and then the connection ends."""
        if self._is_leaving or self.lost:
            return
        self._is_leaving = True
        # First without a last stream, since calls may be on their way (RFC 9113, section 6.8).
        self.write(frames.goaway(frames.LAST_STREAM, frames.NO_ERROR))
        self.ping(_LEAVING, self._take_no_more)
        self._timers.append(self._loop.call_later(_LEAVE_SECONDS, self._take_no_more))

    def forget(self, stream: Stream) -> None:
        """A call has ended."""
        super().forget(stream)
        self.streams_failed += not stream.ended_here
        self._close_if_left()

    def _take_no_more(self) -> None:
        if self._last_allowed == frames.LAST_STREAM and not self.lost:
            self._last_allowed = self._last
            self.write(frames.goaway(self._last, frames.NO_ERROR))
            self._close_if_left()

    def _close_if_left(self) -> None:
        left = self._is_leaving and self._last_allowed != frames.LAST_STREAM
        if left and not self.streams and not self.lost and not self._is_left:
            # The client closes it: who closes while something comes takes back what was sent.
            self._is_left = True
            self._timers.append(self._loop.call_later(_LEAVE_SECONDS, self.close))

    def _grow_old(self) -> None:
        self.leave()
        grace = self.server.limits.most_age_grace_seconds
        self._timers.append(self._loop.call_later(grace, self._end_of_age))

    def _end_of_age(self) -> None:
        self.abort(frames.NO_ERROR, "max_age")

    def _has_ended(self, task: asyncio.Task[None]) -> None:
        self._running -= 1


def _address(peer: Any) -> str:
    if not isinstance(peer, tuple):
        return f"unix:{peer or ''}"
    host, port, *_ = cast(tuple[Any, ...], peer)
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"


def _names(secure: Any) -> Sequence[bytes] | None:
    """The names in the other end's certificate, as gRPC has them; None in plain text."""
    if secure is None:
        return None
    certificate: Mapping[str, Any] = secure.getpeercert() or {}
    names: Sequence[tuple[str, object]] = certificate.get("subjectAltName", ())
    # A directory's name has parts instead of a text, and is no name that gRPC knows.
    return [value.encode() for _, value in names if isinstance(value, str)]
