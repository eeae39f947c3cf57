"""The HTTP client of all providers: bounded, and nothing but what it is told.

Import it lazily, as the SDKs: it takes time and memory that not every process needs.
"""

import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import httpx2

from services.reasoning.http_transport import Answer, HttpTransport, Patience, Server

# All providers of a process together. Each has its own limit of calls besides.
_MOST_CONNECTIONS: Final = 2048
_MOST_IDLE_CONNECTIONS: Final = 256
_IDLE_SECONDS: Final = 30.0
# What no answer is longer than, wrappings of each token included.
MOST_ANSWER_BYTES: Final = 16 * 1024 * 1024
_PACKED: Final = "sent a packed answer"


class UnreadableAnswer(Exception):
    """An answer that is not read to its end. The text is a clause such as `is too long`."""


class HttpClient(httpx2.AsyncClient):
    """A client of httpx, and the way past it for requests that are worked out already."""

    def __init__(self, *, most_answer_bytes: int = MOST_ANSWER_BYTES) -> None:
        """Follows no redirect, uses no proxy and reads no environment.

        A key goes to the address that was configured and to nobody else.
        """
        self._wire: Final = HttpTransport(
            most_connections=_MOST_CONNECTIONS,
            most_idle_connections=_MOST_IDLE_CONNECTIONS,
            idle_seconds=_IDLE_SECONDS,
        )
        self._most_answer_bytes: Final = most_answer_bytes
        super().__init__(
            transport=_BoundedTransport(self._wire, most_answer_bytes),
            # What is packed small may unpack to any size.
            headers={"accept-encoding": "identity"},
            trust_env=False,
            follow_redirects=False,
        )

    async def send_wire(self, server: Server, wire: bytes, patience: Patience) -> "HttpAnswer":
        """Sends a request as it stands, past httpx, which takes longer than everything else.

        Who made it has left the client's headers in. Raises httpx2's errors, and
        UnreadableAnswer.
        """
        answer = await self._wire.send(server, wire, patience)
        if answer.head.packed:
            await answer.aclose()
            raise UnreadableAnswer(_PACKED)
        return HttpAnswer(answer, self._most_answer_bytes)


class HttpAnswer:
    """An answer, of which the body is still to be read: as much of it as is read at all."""

    def __init__(self, answer: Answer, most_bytes: int) -> None:
        """Made by the client."""
        self.status: Final = answer.head.status
        self.headers: Final[Sequence[tuple[bytes, bytes]]] = answer.head.headers
        self._answer: Final = answer
        self._most_bytes: Final = most_bytes
        self._bytes = 0

    async def read(self) -> bytes:
        """The next part of the body; empty at its end.

        Raises TimeoutException and UnreadableAnswer.
        """
        try:
            part = await self._answer.read()
        except httpx2.TimeoutException:
            raise
        except httpx2.TransportError:
            raise UnreadableAnswer("broke off in the middle of its answer") from None
        self._bytes += len(part)
        if self._bytes > self._most_bytes:
            await self._answer.aclose()
            raise UnreadableAnswer(f"sent more than {self._most_bytes} bytes")
        return part

    async def whole(self) -> bytes:
        """All of the body, after which it is closed. Raises as `read`."""
        parts: list[bytes] = []
        try:
            while not self._answer.complete:
                parts.append(await self.read())
        finally:
            await self.aclose()
        return b"".join(parts)

    async def aclose(self) -> None:
        """Nothing more is read. May be repeated."""
        await self._answer.aclose()


def http_client(*, most_answer_bytes: int = MOST_ANSWER_BYTES) -> HttpClient:
    """The client of a process, which logs nothing. Who makes it closes it."""
    silence()
    return HttpClient(most_answer_bytes=most_answer_bytes)


def silence() -> None:
    """Has clients and SDKs log nothing: addresses may hold secrets, and requests are prompts.

    To be called after an SDK was imported: the environment can tell it to log from then on.
    """
    for name in ("httpx2", "httpcore2", "openai", "anthropic"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


class _BoundedTransport(httpx2.AsyncBaseTransport):
    """Breaks off answers that are too long, or packed."""

    def __init__(self, inner: HttpTransport, most_bytes: int) -> None:
        self._inner: Final = inner
        self._most_bytes: Final = most_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        answer = response.stream
        assert isinstance(answer, Answer)
        if answer.head.packed:
            await response.aclose()
            raise UnreadableAnswer(_PACKED)
        response.stream = _BoundedStream(HttpAnswer(answer, self._most_bytes))
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, answer: HttpAnswer) -> None:
        self._answer: Final = answer

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        while part := await self._answer.read():
            yield part

    async def aclose(self) -> None:
        await self._answer.aclose()
