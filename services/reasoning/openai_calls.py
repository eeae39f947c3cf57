"""Sends chat completions by OpenAI's SDK, which works out once how a request looks.

Its address and headers are the same for all calls of a model. The SDK and httpx make them anew
each time, out of options, defaults and environment, which costs more than everything else in a
call of ours. So the first request is made by them, and those that follow are like that one, past
both; errors stay the SDK's.
"""

import json
from typing import Any, Final, cast

import httpx2
import openai

from services.reasoning.http_client import HttpAnswer, HttpClient
from services.reasoning.http_transport import patience_of, request_head, server_of
from services.reasoning.openai_chunks import OpenAIChunks

_PATH: Final = "/chat/completions"
# What every request has of its own.
_OWN_HEADERS: Final = (b"content-length", b"idempotency-key")
_SUCCESS: Final = range(200, 300)
_encode: Final = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
).encode

# Streams: that of the first request, and that of others.
Chunks = openai.AsyncStream[object] | OpenAIChunks


class OpenAICalls:
    """Makes requests of one model's server. Fails with the SDK's own errors."""

    def __init__(
        self, client: openai.AsyncOpenAI, http: HttpClient, headers: dict[str, Any]
    ) -> None:
        """`http` is the client that `client` sends with; `headers` go with each request."""
        self._client: Final = client
        self._http: Final = http
        self._headers: Final = headers
        self._like: _Alike | None = None

    async def whole(self, body: dict[str, Any]) -> object:
        """The content of the answer as plain values.

        Raises ValueError, too, for an answer that is no JSON.
        """
        like = self._like
        if like is None:
            response = await self._first(body, httpx2.Response, streamed=False)
            return json.loads(response.content)
        try:
            answer = await self._sent(like, body)
            return json.loads(await answer.whole())
        except httpx2.TransportError as error:
            raise like.failure(error) from error

    async def stream(self, body: dict[str, Any]) -> Chunks:
        """The chunks of the answer as plain values; to be closed."""
        like = self._like
        if like is None:
            return await self._first(body, object, streamed=True)
        try:
            return OpenAIChunks(await self._sent(like, body), like.request)
        except httpx2.TransportError as error:
            raise like.failure(error) from error

    async def _sent(self, like: "_Alike", body: dict[str, Any]) -> HttpAnswer:
        wire = like.wire(_encode(body).encode())
        answer = await self._http.send_wire(like.server, wire, like.patience)
        if answer.status not in _SUCCESS:
            raise _refusal(answer, await answer.whole(), like.request())
        return answer

    async def _first(self, body: dict[str, Any], cast_to: Any, *, streamed: bool) -> Any:
        # As plain values: what servers send is checked where it is read, and not modelled twice.
        content: Any = await self._client.post(
            _PATH,
            cast_to=cast_to,
            body=body,
            options={"headers": self._headers},
            stream=streamed,
            stream_cls=openai.AsyncStream[object],
        )
        response: httpx2.Response = content.response if streamed else content
        self._like = _Alike(response.request)
        return content


class _Alike:
    """Makes requests that differ from one that was sent in their content alone."""

    def __init__(self, sent: httpx2.Request) -> None:
        self.server: Final = server_of(sent.url)
        self.patience: Final = patience_of(sent)
        self._method: Final = sent.method
        self._url: Final = sent.url
        raw: list[tuple[bytes, bytes]] = sent.headers.raw
        headers = [each for each in raw if each[0].lower() not in _OWN_HEADERS]
        self._head: Final = request_head(sent.method, sent.url, headers)

    def wire(self, content: bytes) -> bytes:
        """A request with that content, as it is sent."""
        return b"%s\r\ncontent-length: %d\r\n\r\n%s" % (self._head, len(content), content)

    def request(self) -> httpx2.Request:
        """What the SDK's errors name: without what was said, and without the key."""
        return httpx2.Request(self._method, self._url)

    def failure(self, error: httpx2.TransportError) -> openai.APIConnectionError:
        """What the SDK raises for it."""
        timed_out = isinstance(error, httpx2.TimeoutException)
        failed = openai.APITimeoutError if timed_out else openai.APIConnectionError
        return failed(request=self.request())


def _refusal(answer: HttpAnswer, raw: bytes, request: httpx2.Request) -> openai.APIStatusError:
    response = httpx2.Response(
        answer.status, headers=list(answer.headers), content=raw, request=request
    )
    try:
        body: object = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict):
        told = cast(dict[str, Any], body)
        body = told.get("error", told)
    return openai.APIStatusError(f"status {response.status_code}", response=response, body=body)
