"""Calls over HTTP, by httpx."""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Final, Self

import httpx

from meshkit.time_limit import within
from services.governor.alert_webhook_sender import Answer, NotAnswered

_MOST_CONNECTIONS: Final = 64


class HttpxPoster:
    """A Poster. An async context manager; keeps a few connections open."""

    def __init__(self) -> None:
        self._client: Final = httpx.AsyncClient(
            # One who may choose the address to go to next could have any called.
            follow_redirects=False,
            # Proxies and credentials of the environment are meant for others.
            trust_env=False,
            # What one receiver has it keep would be sent to others of its domain, and pile up.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            # The certificates that the machine trusts.
            verify=ssl.create_default_context(),
            # Each call has a limit of its own.
            timeout=None,
            limits=httpx.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=8),
        )

        # Names are looked up in threads of their own, each once at a time: a lookup cannot be
        # ended, and those of one webhook would take all threads that others need.
        self._threads: Final = ThreadPoolExecutor(_MOST_CONNECTIONS, "webhook-names")
        self._lookups: Final[dict[str, asyncio.Future[Any]]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._client.aclose()
        for lookup in self._lookups.values():
            lookup.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_seconds: float
    ) -> Answer:
        """Posts and gives the answer. What else it says is not read, however much it is."""
        try:
            with within(timeout_seconds):
                await self._look_up(httpx.URL(url).raw_host.decode())
                async with self._client.stream(
                    "POST", url, headers=dict(headers), content=body
                ) as response:
                    return Answer(
                        response.status_code, _seconds(response.headers.get("retry-after"))
                    )
        except TimeoutError as error:
            raise NotAnswered(f"no answer within {timeout_seconds:g} s") from error
        # Also what the library lets through, such as ssl.SSLError where the receiver refuses in
        # the middle: it fails one call, and must not end the governor.
        except Exception as error:
            raise NotAnswered(type(error).__name__) from error

    async def _look_up(self, host: str) -> None:
        """Returns once the name is known, so that it is again in a moment."""
        lookup = self._lookups.get(host)
        if lookup is None:
            loop = asyncio.get_running_loop()
            lookup = loop.run_in_executor(self._threads, socket.getaddrinfo, host, None)
            self._lookups[host] = lookup
            lookup.add_done_callback(lambda done: self._looked_up(host, done))
        await asyncio.shield(lookup)

    def _looked_up(self, host: str, lookup: asyncio.Future[Any]) -> None:
        del self._lookups[host]
        if not lookup.cancelled():
            # Nobody may be there any more to take what it failed with.
            lookup.exception()


def _seconds(retry_after: str | None) -> float:
    # The other form, a date, says little that a backoff does not.
    return float(retry_after) if retry_after and retry_after.isdigit() else 0.0
