"""A streamed answer of OpenAI's API, chunk by chunk, as the SDK gives it and a tenth as dear."""

import json
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Self, cast

import httpx2
import openai

from services.reasoning.http_client import HttpAnswer
from services.reasoning.server_events import ServerEvents

_DONE: Final = b"[DONE]"


class OpenAIChunks:
    """The chunks as plain values. Fails with the SDK's own errors; left early, the server stops.

    ValueError for what is no JSON, and UnreadableAnswer for what is not read to its end.
    """

    def __init__(self, answer: HttpAnswer, request: Callable[[], httpx2.Request]) -> None:
        """`request` makes what errors name; it need not have its content."""
        self._answer: Final = answer
        self._request: Final = request
        self._events: Final = ServerEvents()
        self._waiting: Final[deque[bytes]] = deque()
        self._ended = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._answer.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> object:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            part = await self._read()
            self._ended = not part
            self._waiting.extend(self._events.feed(part) if part else self._events.end())
        data = self._waiting.popleft()
        if data.startswith(_DONE):
            self._waiting.clear()
            self._ended = True
            # What is left is the end of the body, after which the connection serves others.
            while await self._read():
                pass
            raise StopAsyncIteration
        content = json.loads(data.decode())
        self._raise_error(content)
        return content

    def _raise_error(self, content: object) -> None:
        """Raises the error that a server puts in place of a chunk."""
        if isinstance(content, dict) and (error := cast(dict[str, Any], content).get("error")):
            raise openai.APIError(
                "An error occurred during streaming", request=self._request(), body=error
            )

    async def _read(self) -> bytes:
        try:
            return await self._answer.read()
        except httpx2.TimeoutException as error:
            raise openai.APITimeoutError(request=self._request()) from error
