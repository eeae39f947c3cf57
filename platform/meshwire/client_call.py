"""A call as its client sees it: from its beginning to its status."""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable, Generator
from typing import Any, Final

import grpc

from meshwire import frames
from meshwire.client_stream import ClientStream, Metadata
from meshwire.posted_requests import PostedRequests
from meshwire.stream import Stream, end_of, message

_Code = grpc.StatusCode


class ClientCall:
    """One call of any kind, made anew where nobody has seen it.

    Awaited, it gives the only answer; `read` gives one of several.
    """

    __slots__ = (
        "_again",
        "_answers",
        "_code",
        "_details",
        "_done",
        "_expiry",
        "_is_cancelled",
        "_loop",
        "_method",
        "_read_answer",
        "_sender",
        "_stream",
        "_trailing",
        "_unseen",
        "_waiter",
        "beginning",
    )

    def __init__(
        self,
        method: str,
        read_answer: Callable[[bytes], Any] | None,
        again: "Callable[[ClientCall], None] | None",
        unseen: Metadata = (),
    ) -> None:
        """`again` begins it once more; None for one that cannot be.

        `unseen` is its trailing metadata where it fails and nobody has seen it.
        """
        self._unseen: Final = unseen
        # What the channel begins it with.
        self.beginning: Any = None
        self._loop: Final = asyncio.get_running_loop()
        self._method: Final = method
        self._read_answer: Final = read_answer
        self._again = again
        self._answers: Final[deque[bytes]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._stream: ClientStream | None = None
        self._sender: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._code: _Code | None = None
        self._details = ""
        self._is_cancelled = False
        self._trailing: Metadata = ()
        self._done: list[Callable[[ClientCall], None]] = []

    # For the channel.

    def limit(self, seconds: float) -> None:
        """Has it fail after that time."""
        self._expiry = self._loop.call_later(max(seconds, 0.0), self._expire)

    def on(self, stream: ClientStream) -> None:
        """It is on its way there."""
        self._stream = stream

    def send(
        self, stream: Stream, requests: AsyncIterable[Any], write: Callable[[Any], bytes]
    ) -> None:
        """Sends what an async iterator gives, or what is posted."""
        if isinstance(requests, PostedRequests):
            requests.attach(
                lambda request: stream.put(message(write(request))),
                lambda: stream.finish(end_of(stream.number)),
            )
        else:
            self._sender = self._loop.create_task(self._send(stream, requests, write))

    # For its stream.

    def arrived(self, stream: Stream, content: bytes) -> None:
        """An answer came."""
        if self._code is None:
            self._answers.append(content)
            self._wake()
        else:
            stream.took(len(content))

    def ended(self, code: grpc.StatusCode, details: str, trailing: Metadata) -> None:
        """It has ended; only the first time counts."""
        if self._code is not None:
            return
        self._code, self._details, self._trailing = code, details, trailing
        # It is not made again, and nothing of it is in the way of more: let go of both.
        self.beginning = self._stream = None
        if self._expiry is not None:
            self._expiry.cancel()
        if self._sender is not None:
            self._sender.cancel()
        self._wake()
        done, self._done = self._done, []
        for callback in done:
            callback(self)

    def refused(self) -> None:
        """Nobody has seen it: it is made once more where it can be."""
        again, self._again = self._again, None
        if self._code is not None:
            return
        if again is None:
            self.ended(_Code.UNAVAILABLE, "Nobody took the call.", self._unseen)
        else:
            again(self)

    # For who has made it: what grpc.aio's calls have.

    def __aiter__(self) -> "ClientCall":
        return self

    async def __anext__(self) -> Any:
        answer = await self.read()
        if answer is grpc.aio.EOF:
            raise StopAsyncIteration
        return answer

    def __await__(self) -> Generator[Any, None, Any]:
        return self._only_answer().__await__()

    async def read(self) -> Any:
        """The next answer; `grpc.aio.EOF` after the last. Raises AioRpcError."""
        while not self._answers and self._code is None:
            await self._wait()
        if self._answers:
            return self._take()
        if self._code is not _Code.OK:
            raise self._error()
        return grpc.aio.EOF

    def cancel(self) -> bool:
        """Ends it; who waits for it gets CancelledError."""
        if self._code is not None:
            return False
        self._answers.clear()
        self._is_cancelled = True
        self._give_up(_Code.CANCELLED, "It was cancelled here.")
        return True

    def add_done_callback(self, callback: "Callable[[ClientCall], None]") -> None:
        """Calls it when the call ends."""
        if self._code is None:
            self._done.append(callback)
        else:
            callback(self)

    async def code(self) -> grpc.StatusCode:
        """What it has ended with."""
        await self._end()
        return self._code or _Code.UNKNOWN

    async def details(self) -> str:
        """The text that it has ended with."""
        await self._end()
        return self._details

    async def trailing_metadata(self) -> Metadata:
        """What came at the end."""
        await self._end()
        return self._trailing

    async def _only_answer(self) -> Any:
        while self._code is None:
            await self._wait()
        if self._code is not _Code.OK:
            raise self._error()
        if len(self._answers) != 1:
            self._code, self._details = _Code.INTERNAL, "Not one answer, as there should be."
            raise self._error()
        return self._take()

    async def _end(self) -> None:
        if self._code is None:
            ended = asyncio.Event()
            self.add_done_callback(lambda _: ended.set())
            await ended.wait()

    async def _wait(self) -> None:
        """Until something came. Whoever is cancelled here cancels the call."""
        if self._waiter is None:
            self._waiter = self._loop.create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            self.cancel()
            raise

    def _take(self) -> Any:
        content = self._answers.popleft()
        if self._stream is not None:
            self._stream.took(len(content))
        if self._read_answer is None:
            return content
        try:
            return self._read_answer(content)
        except Exception as error:
            self._answers.clear()
            text = "An answer that cannot be read."
            self._give_up(_Code.INTERNAL, text)
            # Whatever the server says of it.
            self._code, self._details = _Code.INTERNAL, text
            raise self._error() from error

    def _error(self) -> BaseException:
        if self._is_cancelled:
            return asyncio.CancelledError()
        return grpc.aio.AioRpcError(
            self._code or _Code.UNKNOWN,
            grpc.aio.Metadata(),
            grpc.aio.Metadata(*self._trailing),
            details=self._details,
        )

    async def _send(
        self, stream: Stream, requests: AsyncIterable[Any], write: Callable[[Any], bytes]
    ) -> None:
        try:
            async for request in requests:
                await stream.put_in_turn(message(write(request)))
            stream.finish(end_of(stream.number))
        except asyncio.CancelledError:
            # Where that was not for the call's end, it would wait for the rest without end.
            self.cancel()
            raise
        except Exception as error:
            # What is to be sent could not be made: the call is of no use.
            self.ended(_Code.UNKNOWN, f"The requests failed: {type(error).__name__}.", ())
            stream.reset(frames.CANCEL)
            what = f"the requests of {self._method} failed"
            self._loop.call_exception_handler({"message": what, "exception": error})

    def _expire(self) -> None:
        self._give_up(_Code.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _give_up(self, code: grpc.StatusCode, details: str) -> None:
        stream = self._stream
        self.ended(code, details, ())
        if stream is not None:
            stream.give_up()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
