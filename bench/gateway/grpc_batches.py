"""Calls that travel together on streams, as services of the mesh call each other.

`platform/meshkit/batch_stream.py` does the same, with gRPC's own client and all that can go wrong.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final

from bench.gateway.grpc_calls import GrpcCalls
from bench.gateway.http2_connection import OpenCall
from bench.gateway.http_calls import CallFailed

# As long as a stream of the mesh takes in batches, and so many at a time.
_OPEN_SECONDS: Final = 0.5
_MOST_OPEN: Final = 4


class GrpcBatches:
    """Calls of a method from a stream of batches to a stream of their answers."""

    def __init__(
        self,
        calls: GrpcCalls,
        method: str,
        *,
        request: Callable[..., Any],
        response: Callable[[bytes], Any],
    ) -> None:
        """`request` makes a message of `items`; `response` reads one, which has `results`."""
        self._calls: Final = calls
        self._method: Final = method
        self._request: Final = request
        self._response: Final = response
        self._numbers: Final = itertools.count()
        self._waiting: list[Any] = []
        self._sending: asyncio.Task[None] | None = None
        self._open: list[_Stream] = []

    async def ask(self, item: Any) -> Any:
        """The answer to an item, which has a context. Raises CallFailed."""
        item.context.index = number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((number, item, answer))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        result = await answer
        if result.HasField("error"):
            raise CallFailed(result.error.message)
        return result.response

    async def _send(self) -> None:
        """What was asked for in one turn of the event loop goes in one message."""
        while self._waiting:
            some, self._waiting = self._waiting, []
            message = self._request(items=[item for _, item, _ in some]).SerializeToString()
            try:
                stream = await self._present(len(message))
                stream.send(message, [(number, answer) for number, _, answer in some])
            except (CallFailed, OSError) as error:
                for _, _, answer in some:
                    _fail(answer, CallFailed(str(error)))
        self._sending = None

    async def _present(self, size_bytes: int) -> "_Stream":
        """The stream that has the least to do; a new one where all have something."""
        self._open = [each for each in self._open if each.takes(size_bytes)]
        idlest = min(self._open, key=lambda each: each.unanswered, default=None)
        if idlest is None or (idlest.unanswered and len(self._open) < _MOST_OPEN):
            idlest = _Stream(self._response)
            await idlest.begin(self._calls, self._method)
            self._open.append(idlest)
        return idlest


class _Stream:
    """One stream, from its first batch to its last answer."""

    def __init__(self, response: Callable[[bytes], Any]) -> None:
        self._response: Final = response
        self._answers: Final[dict[int, asyncio.Future[Any]]] = {}
        self._retired = False
        self._call: OpenCall

    @property
    def unanswered(self) -> int:
        """Items that wait for their answer."""
        return len(self._answers)

    async def begin(self, calls: GrpcCalls, method: str) -> None:
        """Opens it. Raises OSError where nobody is there."""
        self._call = await calls.begin(method, self._take)
        self._call.ended.add_done_callback(self._ended)
        asyncio.get_running_loop().call_later(_OPEN_SECONDS, self._retire)

    def takes(self, size_bytes: int) -> bool:
        """Whether a message of that size may be sent; where not, none may any more."""
        if not self._call.has_room(size_bytes):
            self._retire()
        return not self._retired

    def send(self, message: bytes, asked: Sequence[tuple[int, asyncio.Future[Any]]]) -> None:
        """Sends a batch. Raises CallFailed."""
        self._call.send(message)
        self._answers.update(asked)

    def _take(self, content: bytes) -> None:
        for result in self._response(content).results:
            answer = self._answers.pop(result.index, None)
            if answer is not None and not answer.done():
                answer.set_result(result)

    def _retire(self) -> None:
        if not self._retired:
            self._retired = True
            self._call.end()

    def _ended(self, ended: asyncio.Future[None]) -> None:
        self._retired = True
        error = ended.exception() or CallFailed("ended before all was answered")
        for answer in self._answers.values():
            _fail(answer, error)
        self._answers.clear()


def _fail(answer: asyncio.Future[Any], error: BaseException) -> None:
    # Nobody may wait for it any more.
    if not answer.done():
        answer.set_exception(error)
