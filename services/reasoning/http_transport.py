"""Takes requests of an httpx client to servers, over connections that stay open.

It does what httpx's own transport does for HTTP/1.1 without proxies, in a tenth of the
processor's time: that is most of what a call of a quick model costs here.
"""

import asyncio
import ssl
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final

import httpx2

from services.reasoning.http_connection import HttpConnection
from services.reasoning.http_head import Head

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Server:
    """Who is asked."""

    scheme: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for what, in seconds; None for ever."""

    # For a connection of those that may be open at a time.
    pool: float | None = None
    connect: float | None = None
    # For the next thing that the server says.
    read: float | None = None


class HttpTransport(httpx2.AsyncBaseTransport):
    """Connections to any number of servers."""

    def __init__(
        self, *, most_connections: int, most_idle_connections: int, idle_seconds: float
    ) -> None:
        """A transport without connections.

        Args:
            most_connections: In use at a time; whoever comes then waits.
            most_idle_connections: Kept for others, of all servers together.
            idle_seconds: How long they are kept.
        """
        self._free: Final = asyncio.Semaphore(most_connections)
        self._most_idle: Final = most_idle_connections
        self._idle_seconds: Final = idle_seconds
        self._idle: Final[dict[Server, list[HttpConnection]]] = defaultdict(list)
        self._idle_count = 0
        self._sweep: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = None
        self._closed = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Sends a request; its answer, whose body is still to be read. Raises httpx2's errors."""
        wire = await _wire(request)
        answer = await self.send(server_of(request.url), wire, patience_of(request))
        return httpx2.Response(answer.head.status, headers=answer.head.headers, stream=answer)

    async def send(self, server: Server, wire: bytes, patience: Patience) -> "Answer":
        """Sends a request as it stands; its answer as `handle_async_request` has it."""
        await self._enter(patience.pool)
        try:
            connection = self._idle_one(server) or await self._connect(server, patience.connect)
            try:
                head = await connection.ask(wire, patience.read)
            except BaseException:
                connection.abort()
                raise
        except BaseException:
            self._free.release()
            raise
        return Answer(self, server, connection, head, patience.read)

    async def aclose(self) -> None:
        """Closes what is idle, and what is in use as soon as it is not."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()

    def leave(self, server: Server, connection: HttpConnection) -> None:
        """An answer is done with, or nobody wants the rest of it."""
        self._free.release()
        if self._closed or not connection.reusable or self._idle_count >= self._most_idle:
            connection.abort()
            return
        connection.rest()
        self._idle[server].append(connection)
        self._idle_count += 1
        if self._sweep is None:
            self._sweep_later()

    async def _enter(self, pool_seconds: float | None) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(pool_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise httpx2.PoolTimeout("all connections are in use") from None

    def _idle_one(self, server: Server) -> HttpConnection | None:
        """The one that was used last, so that those which are not needed grow old."""
        connections = self._idle.get(server)
        while connections:
            connection = connections.pop()
            self._idle_count -= 1
            if not connection.closed:
                return connection
        return None

    async def _connect(self, server: Server, seconds: float | None) -> HttpConnection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                _, connection = await loop.create_connection(
                    HttpConnection,
                    server.host,
                    server.port,
                    ssl=self._context() if server.scheme == "https" else None,
                )
        except TimeoutError:
            raise httpx2.ConnectTimeout("could not be reached in time") from None
        except OSError as error:
            raise httpx2.ConnectError(str(error)) from None
        return connection

    def _context(self) -> ssl.SSLContext:
        # Certificates are read when somebody needs them.
        if self._tls is None:
            self._tls = httpx2.create_ssl_context(trust_env=False)
        return self._tls

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep = loop.call_later(self._idle_seconds, self._close_old)

    def _close_old(self) -> None:
        """Runs while there are idle connections, and no longer."""
        self._sweep = None
        since = asyncio.get_running_loop().time() - self._idle_seconds
        for origin, connections in list(self._idle.items()):
            kept = [each for each in connections if each.idle_since > since and not each.closed]
            for each in connections:
                if each not in kept:
                    each.abort()
            self._idle_count -= len(connections) - len(kept)
            if kept:
                self._idle[origin] = kept
            else:
                del self._idle[origin]
        if self._idle_count:
            self._sweep_later()


class Answer(httpx2.AsyncByteStream):
    """An answer, of which the body is still to be read. Closed early, the server hears of it."""

    def __init__(
        self,
        transport: HttpTransport,
        server: Server,
        connection: HttpConnection,
        head: Head,
        read_seconds: float | None,
    ) -> None:
        """Made by the transport."""
        self.head: Final = head
        self._transport: Final = transport
        self._server: Final = server
        self._connection: Final = connection
        self._read_seconds: Final = read_seconds
        self._left = False

    @property
    def complete(self) -> bool:
        """Whether there is nothing more to read."""
        return self._connection.complete

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        while part := await self.read():
            yield part

    async def read(self) -> bytes:
        """The next part of the body; empty at its end. Raises httpx2's errors."""
        try:
            return await self._connection.read(self._read_seconds)
        except BaseException:
            # Not everybody who is told so closes it: the SDKs do not where a refusal breaks off.
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Has the connection serve others, if all was read. May be repeated."""
        if not self._left:
            self._left = True
            self._transport.leave(self._server, self._connection)


def server_of(url: httpx2.URL) -> Server:
    """Whom an address names. Raises UnsupportedProtocol."""
    if url.scheme not in _PORTS:
        raise httpx2.UnsupportedProtocol(f"{url.scheme}:// is not spoken here")
    return Server(url.scheme, url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme])


def patience_of(request: httpx2.Request) -> Patience:
    """What httpx was told about time."""
    timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
    return Patience(timeouts.get("pool"), timeouts.get("connect"), timeouts.get("read"))


def request_head(method: str, url: httpx2.URL, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A request up to its last header. Raises LocalProtocolError where it cannot be sent."""
    lines = [b"%s %s HTTP/1.1" % (method.encode("ascii"), url.raw_path)]
    lines += [b"%s: %s" % header for header in headers]
    head = b"\r\n".join(lines)
    # Nothing that was put into a header may begin another one.
    if not head.count(b"\n") == head.count(b"\r") == len(lines) - 1 or b"\0" in head:
        raise httpx2.LocalProtocolError("A header must not hold line ends.")
    return head


async def _wire(request: httpx2.Request) -> bytes:
    body = await request.aread()
    if body and "content-length" not in request.headers:
        raise httpx2.LocalProtocolError("A request with a body needs its length.")
    head = request_head(request.method, request.url, request.headers.raw)
    return head + b"\r\n\r\n" + body
