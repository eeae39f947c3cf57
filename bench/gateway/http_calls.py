"""Calls of an API like OpenAI's with as little work as can be, so that servers are measured."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import Final, cast

from bench.gateway import reference_call

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_END_OF_CHUNKS: Final = b"\r\n0\r\n\r\n"
# The first piece of text that is not empty.
_TEXT: Final = re.compile(rb'"content": ?"[^"]')


class CallFailed(Exception):
    """A server did not answer as it should."""


class _Stale(CallFailed):
    """A connection ended before anything of an answer came."""


class HttpCalls:
    """Calls of one server over connections that stay open, as many as are needed at a time.

    Servers close connections that were idle for a while: a call that finds its connection closed
    before anything was answered is made over a new one, once, as clients of HTTP do.
    """

    def __init__(self, host: str, port: int, path: str, *, key: str = "") -> None:
        """Connects when it is called first. `key`: sent as the bearer's, where there is one."""
        self._host: Final = host
        self._port: Final = port
        self._idle: Final[list[_Connection]] = []
        self._authorization: Final = f"authorization: Bearer {key}\r\n" if key else ""
        self._whole: Final = self._request(path, reference_call.chat_request(stream=False))
        self._stream: Final = self._request(path, reference_call.chat_request(stream=True))

    async def whole(self) -> None:
        """Makes the reference call. Raises CallFailed where the answer is another one."""
        await self._ask(self._whole, _ignore)

    async def stream(self, first: Callable[[], None]) -> None:
        """Makes it as a stream, and calls `first` at its first piece of text."""
        await self._ask(self._stream, first)

    def close(self) -> None:
        """Closes the connections; nothing is under way any more."""
        while self._idle:
            self._idle.pop().close()

    async def _ask(self, request: bytes, first: Callable[[], None]) -> None:
        connection, body = await self._reached(request, first)
        self._idle.append(connection)
        if reference_call.WORDS[-1].encode() not in body:
            raise CallFailed(f"answered {body[:200]!r}")

    async def _reached(
        self, request: bytes, first: Callable[[], None]
    ) -> "tuple[_Connection, bytes]":
        connection = self._idle_one()
        if connection is not None:
            with contextlib.suppress(_Stale):
                return connection, await self._answered(connection, request, first)
        connection = await self._connect()
        return connection, await self._answered(connection, request, first)

    async def _answered(
        self, connection: "_Connection", request: bytes, first: Callable[[], None]
    ) -> bytes:
        try:
            return await connection.ask(request, first)
        except BaseException:
            connection.close()
            raise

    def _idle_one(self) -> "_Connection | None":
        """The one used last of those that the server has not closed in the meantime."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, self._host, self._port)
        return connection

    def _request(self, path: str, body: bytes) -> bytes:
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n"
            f"{self._authorization}"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class _Connection(asyncio.Protocol):
    """One call at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._received = b""
        self._answer: asyncio.Future[bytes] | None = None
        self._first: Callable[[], None] | None = None

    def ask(self, request: bytes, first: Callable[[], None]) -> Awaitable[bytes]:
        """The body of the answer, the marks of its chunks included."""
        self._received, self._first = b"", first
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    @property
    def closed(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Closes it."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        kind = CallFailed if self._received else _Stale
        self._fail("broke the connection", kind)

    def data_received(self, data: bytes) -> None:
        """Looks whether the answer is complete."""
        answer = self._answer
        if answer is None or answer.done():
            return
        self._received += data
        if self._first is not None and _TEXT.search(self._received):
            self._first()
            self._first = None
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        if not self._received.startswith(b"HTTP/1.1 200 "):
            self._fail(f"answered {self._received[:200]!r}")
        elif found := _LENGTH.search(self._received, 0, end + 2):
            if len(self._received) >= end + 4 + int(found[1]):
                answer.set_result(self._received[end + 4 :])
        elif not _CHUNKED.search(self._received, 0, end + 2):
            self._fail("does not say where its answer ends")
        elif self._received.endswith(_END_OF_CHUNKS):
            answer.set_result(self._received[end + 4 :])

    def _fail(self, text: str, kind: type[CallFailed] = CallFailed) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(kind(text))


def _ignore() -> None:
    """Of a whole answer nobody waits for the first piece."""
