"""The HTTP client of all providers: bounded, and nothing but what it is told.

Import it lazily, as the SDKs: it takes time and memory that not every process needs.
"""

import logging
from collections.abc import AsyncGenerator
from typing import Final, cast

import httpx2

from services.reasoning.http_transport import HttpTransport

# All providers of a process together. Each has its own limit of calls besides.
_MOST_CONNECTIONS: Final = 2048
_MOST_IDLE_CONNECTIONS: Final = 256
_IDLE_SECONDS: Final = 30.0
# What no answer is longer than, wrappings of each token included.
MOST_ANSWER_BYTES: Final = 16 * 1024 * 1024


class UnreadableAnswer(Exception):
    """An answer that is not read to its end. The text is a clause such as `is too long`."""


def http_client(*, most_answer_bytes: int = MOST_ANSWER_BYTES) -> httpx2.AsyncClient:
    """A client that follows no redirect, uses no proxy and reads no environment.

    A key goes to the address that was configured and to nobody else. Who makes it closes it.
    """
    silence()
    return httpx2.AsyncClient(
        transport=_BoundedTransport(
            HttpTransport(
                most_connections=_MOST_CONNECTIONS,
                most_idle_connections=_MOST_IDLE_CONNECTIONS,
                idle_seconds=_IDLE_SECONDS,
            ),
            most_answer_bytes,
        ),
        # What is packed small may unpack to any size.
        headers={"accept-encoding": "identity"},
        trust_env=False,
        follow_redirects=False,
    )


def silence() -> None:
    """Has clients and SDKs log nothing: addresses may hold secrets, and requests are prompts.

    To be called after an SDK was imported: the environment can tell it to log from then on.
    """
    for name in ("httpx2", "httpcore2", "openai", "anthropic"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


class _BoundedTransport(httpx2.AsyncBaseTransport):
    """Breaks off answers that are too long, or packed."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, most_bytes: int) -> None:
        self._inner: Final = inner
        self._most_bytes: Final = most_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise UnreadableAnswer("sent a packed answer")
        response.stream = _BoundedStream(
            cast(httpx2.AsyncByteStream, response.stream), self._most_bytes
        )
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, most_bytes: int) -> None:
        self._inner: Final = inner
        self._most_bytes: Final = most_bytes

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        left = self._most_bytes
        try:
            async for part in self._inner:
                left -= len(part)
                if left < 0:
                    await self._inner.aclose()
                    raise UnreadableAnswer(f"sent more than {self._most_bytes} bytes")
                yield part
        except httpx2.TimeoutException:
            raise
        except httpx2.TransportError:
            raise UnreadableAnswer("broke off in the middle of its answer") from None

    async def aclose(self) -> None:
        await self._inner.aclose()
