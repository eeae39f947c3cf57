"""Requests of a call that are sent at the moment in which they are posted."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final


class PostedRequests:
    """What a call of many requests sends, by who has them: no task waits for the next one.

    Channels that know nothing of it take it as any async iterator.
    """

    def __init__(self) -> None:
        self._waiting: Final[deque[Any]] = deque()
        self._has_ended = False
        self._wake: Final = asyncio.Event()
        self._send: Callable[[Any], None] | None = None
        self._end: Callable[[], None] | None = None

    def post(self, request: Any) -> None:
        """Sends it, or keeps it until the call has begun."""
        if self._send is not None:
            self._send(request)
        else:
            self._waiting.append(request)
            self._wake.set()

    def end(self) -> None:
        """There are no more; the answers that are due still come."""
        self._has_ended = True
        self._wake.set()
        if self._end is not None:
            self._end()

    def attach(self, send: Callable[[Any], None], end: Callable[[], None]) -> None:
        """The call has begun: what waits is sent now, and the rest as it is posted."""
        while self._waiting:
            send(self._waiting.popleft())
        self._send, self._end = send, end
        if self._has_ended:
            end()

    def __aiter__(self) -> "PostedRequests":
        return self

    async def __anext__(self) -> Any:
        while not self._waiting:
            if self._has_ended:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._waiting.popleft()
