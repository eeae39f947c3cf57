"""Sends chat completions by OpenAI's SDK, which works out once how a request looks.

Its address and headers are the same for all calls of a model. The SDK makes them anew each
time, out of options, defaults and environment, which costs more than everything else in a call
of ours. So the first request is made by it, and those that follow are like that one; streams,
errors and the client for HTTP stay the SDK's.
"""

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, cast

import httpx2
import openai

_PATH: Final = "/chat/completions"
# What every request has of its own.
_OWN_HEADERS: Final = (b"content-length", b"idempotency-key")


class OpenAICalls:
    """Makes requests of one model's server. Fails with the SDK's own errors."""

    def __init__(
        self, client: openai.AsyncOpenAI, http: httpx2.AsyncClient, headers: dict[str, Any]
    ) -> None:
        """`http` is the client that `client` sends with; `headers` go with each request."""
        self._client: Final = client
        self._http: Final = http
        self._headers: Final = headers
        self._like: _Alike | None = None

    async def post(self, body: dict[str, Any], *, streamed: bool) -> object:
        """The content of the answer as plain values, or the stream of its chunks.

        Raises ValueError, too, for an answer that is no JSON.
        """
        if self._like is None:
            return await self._first(body, streamed=streamed)
        request = self._like.request(body)
        with _as_the_sdk_fails(request):
            response = await self._http.send(request, stream=True)
            if streamed and response.is_success:
                return openai.AsyncStream[object](
                    cast_to=object, response=response, client=self._client
                )
            try:
                raw = await response.aread()
            finally:
                await response.aclose()
        if not response.is_success:
            raise _refusal(response, raw)
        return json.loads(raw)

    async def _first(self, body: dict[str, Any], *, streamed: bool) -> object:
        # As plain values: what servers send is checked where it is read, and not modelled twice.
        content: Any = await self._client.post(
            _PATH,
            cast_to=object if streamed else httpx2.Response,
            body=body,
            options={"headers": self._headers},
            stream=streamed,
            stream_cls=openai.AsyncStream[object],
        )
        response: httpx2.Response = content.response if streamed else content
        self._like = _Alike(response.request)
        return content if streamed else json.loads(response.content)


class _Alike:
    """Makes requests that differ from one that was sent in their content alone."""

    def __init__(self, sent: httpx2.Request) -> None:
        self._method: Final = sent.method
        self._url: Final = sent.url
        self._extensions: Final = {"timeout": sent.extensions.get("timeout", {})}
        raw: list[tuple[bytes, bytes]] = sent.headers.raw
        self._headers: Final = [each for each in raw if each[0].lower() not in _OWN_HEADERS]

    def request(self, body: dict[str, Any]) -> httpx2.Request:
        """A request with that content."""
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return httpx2.Request(
            self._method,
            self._url,
            headers=self._headers,
            content=content.encode(),
            extensions=self._extensions,
        )


@contextmanager
def _as_the_sdk_fails(request: httpx2.Request) -> Generator[None]:
    try:
        yield
    except httpx2.TimeoutException as error:
        raise openai.APITimeoutError(request=request) from error
    except httpx2.TransportError as error:
        raise openai.APIConnectionError(request=request) from error


def _refusal(response: httpx2.Response, raw: bytes) -> openai.APIStatusError:
    try:
        body: object = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict):
        told = cast(dict[str, Any], body)
        body = told.get("error", told)
    return openai.APIStatusError(f"status {response.status_code}", response=response, body=body)
