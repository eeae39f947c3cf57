"""A call as its client sees it: from its headers to its status."""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable, Generator
from typing import Any, Final, cast

import grpc

from meshwire import frames, headers
from meshwire.frames import DATA, END_STREAM, StreamFault, frame, header_frames
from meshwire.headers import Headers
from meshwire.posted_requests import PostedRequests
from meshwire.stream import Stream, Wire, end_of, message

_Code = grpc.StatusCode
_CODES: Final = {str(cast(tuple[int, str], code.value)[0]): code for code in _Code}
# What an HTTP status means where a proxy answered, and what an error code of HTTP/2 does, both as
# gRPC says it ("HTTP to gRPC Status Code Mapping", "gRPC over HTTP2").
_BY_HTTP_STATUS: Final = {
    "400": _Code.INTERNAL,
    "401": _Code.UNAUTHENTICATED,
    "403": _Code.PERMISSION_DENIED,
    "404": _Code.UNIMPLEMENTED,
    "429": _Code.UNAVAILABLE,
    "502": _Code.UNAVAILABLE,
    "503": _Code.UNAVAILABLE,
    "504": _Code.UNAVAILABLE,
}
_BY_RESET: Final = {
    frames.REFUSED_STREAM: _Code.UNAVAILABLE,
    frames.CANCEL: _Code.CANCELLED,
    frames.ENHANCE_YOUR_CALM: _Code.RESOURCE_EXHAUSTED,
}

_Metadata = tuple[tuple[str, str | bytes], ...]


class ClientStream(Stream):
    """What comes of one call on one connection, for a `ClientCall`."""

    __slots__ = ("_call", "_headers", "_trailers")

    def __init__(self, wire: Wire, number: int, most_bytes: int, call: "ClientCall") -> None:
        super().__init__(wire, number, most_bytes)
        self._call: Final = call
        # None until they came.
        self._headers: Headers | None = None
        self._trailers: Headers | None = None

    def begin(self, said: Headers, *, ended: bool) -> None:
        """Headers, or trailers, came."""
        if self._headers is None and not ended:
            named = dict(said)
            if named.get(":status", "").startswith("1"):
                return
            self._headers = said
            if named.get(":status") != "200":
                code, text, _ = _by_http(named)
                self._fail(code, text)
            return
        if not ended:
            raise StreamFault(frames.PROTOCOL_ERROR, "headers in the middle of a call")
        self._trailers = said
        self.end_there()

    def message(self, packed: bool, content: bytes) -> None:
        """An answer came."""
        if packed:
            self._fail(_Code.INTERNAL, "A packed message, which nobody has asked for.")
        else:
            self._call.arrived(self, content)

    def too_large(self, size_bytes: int) -> None:
        """An answer is larger than one may be."""
        self._fail(
            _Code.RESOURCE_EXHAUSTED,
            f"Received message larger than max ({size_bytes} vs. {self._most_bytes})",
        )

    def ended_by_peer(self) -> None:
        """It ends, with a status or without."""
        self._call.ended(*self._status())
        if not self.ended_here:
            self.reset(frames.NO_ERROR)

    def broken(self, code: int, text: str) -> None:
        """The other end broke it off, or the connection is gone."""
        if self._wire.lost:
            self._call.ended(_Code.UNAVAILABLE, f"The connection was lost: {text}", ())
        elif code == frames.REFUSED_STREAM and self._headers is None:
            self._call.refused()
        else:
            self._call.ended(_BY_RESET.get(code, _Code.INTERNAL), f"Received {text}", ())

    def refused(self) -> None:
        """Nobody has seen the call."""
        self._close()
        self._call.refused()

    def open(self, block: bytes) -> None:
        """Begins the call; its requests follow."""
        most = self._wire.most_frame_bytes
        self._wire.write(header_frames(self.number, block, most, ended=False))

    def open_with(self, block: bytes, content: bytes) -> None:
        """Begins the call with its only request, at once where there is room for it."""
        wire, number, size = self._wire, self.number, len(content)
        begins = header_frames(number, block, wire.most_frame_bytes, ended=False)
        if size <= min(self.window, wire.window, wire.most_frame_bytes):
            self.window -= size
            wire.window -= size
            self.ended_here = True
            wire.write(begins + frame(DATA, END_STREAM, number, content))
        else:
            wire.write(begins)
            self.put(content)
            self.finish(end_of(number))

    def give_up(self) -> None:
        """Nobody waits for the answer any more."""
        self.reset(frames.CANCEL)

    def _status(self) -> tuple[grpc.StatusCode, str, _Metadata]:
        named = dict(self._trailers or ())
        status = named.get("grpc-status")
        if status is None:
            if self._headers is None:
                return _by_http(named)
            return _Code.INTERNAL, "The call ended without a status.", ()
        text = headers.read_message(named.get("grpc-message", ""))
        try:
            return _CODES.get(status, _Code.UNKNOWN), text, _shown(self._trailers or ())
        except ValueError as error:
            return _Code.INTERNAL, str(error), ()

    def _fail(self, code: grpc.StatusCode, text: str) -> None:
        self._call.ended(code, text, ())
        self.reset(frames.CANCEL)


def _by_http(named: dict[str, str]) -> tuple[grpc.StatusCode, str, _Metadata]:
    status = named.get(":status", "")
    code = _BY_HTTP_STATUS.get(status, _Code.UNKNOWN)
    return code, f"Received http2 header with status: {status}", ()


def _shown(said: Headers) -> _Metadata:
    own = ("grpc-status", "grpc-message")
    return tuple([each for each in headers.metadata(said) if each[0] not in own])


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
        unseen: _Metadata = (),
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
        self._trailing: _Metadata = ()
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

    def arrived(self, stream: ClientStream, content: bytes) -> None:
        """An answer came."""
        if self._code is None:
            self._answers.append(content)
            self._wake()
        else:
            stream.took(len(content))

    def ended(self, code: grpc.StatusCode, details: str, trailing: _Metadata) -> None:
        """It has ended; only the first time counts."""
        if self._code is not None:
            return
        self._code, self._details, self._trailing = code, details, trailing
        # It is not made again: what it would begin with is let go.
        self.beginning = None
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
        self.ended(_Code.CANCELLED, "It was cancelled here.", ())
        if self._stream is not None:
            self._stream.give_up()
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

    async def trailing_metadata(self) -> _Metadata:
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
            self.ended(_Code.INTERNAL, text, ())
            # Whatever the server says of it.
            self._code, self._details = _Code.INTERNAL, text
            if self._stream is not None:
                self._stream.give_up()
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
        self.ended(_Code.DEADLINE_EXCEEDED, "Deadline Exceeded", ())
        if self._stream is not None:
            self._stream.give_up()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
