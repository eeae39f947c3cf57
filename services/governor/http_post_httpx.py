"""Calls over HTTP, by httpx."""

import ssl
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Final, Self

import httpx

from meshkit.time_limit import within
from services.governor.alert_webhook_sender import Answer, NotAnswered


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
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=8),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, *, timeout_seconds: float
    ) -> Answer:
        """Posts and gives the answer. What else it says is not read, however much it is."""
        try:
            with within(timeout_seconds):
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


def _seconds(retry_after: str | None) -> float:
    # The other form, a date, says little that a backoff does not.
    return float(retry_after) if retry_after and retry_after.isdigit() else 0.0
