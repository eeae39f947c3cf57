"""A call as its server sees it: what its handler is given, and how it is answered."""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from inspect import isasyncgenfunction, isawaitable
from typing import TYPE_CHECKING, Any, Final, cast

import grpc

from meshwire import frames, headers, packing
from meshwire.frames import END_HEADERS, END_STREAM, HEADERS, StreamFault, frame
from meshwire.headers import Headers, Metadata
from meshwire.packing import IDENTITY, PACKINGS, UnreadableMessage
from meshwire.server_context import ServerContext
from meshwire.stream import message

if TYPE_CHECKING:
    from meshwire.server import ServerConnection

_Code = grpc.StatusCode
_CONTENT: Final = headers.block(
    (("content-type", "application/grpc"), ("grpc-accept-encoding", "identity, deflate, gzip"))
)
_BEGINNING: Final = headers.OK + _CONTENT
_ENDED_WELL: Final = headers.literal("grpc-status", "0")
_ANSWERS_A_TURN: Final = 16
# So long does a status wait for the first request. gRPC's own client takes one that comes before
# for a fault of its own, and says INTERNAL.
_FIRST_SECONDS: Final = 0.1
_GRPC: Final = "application/grpc"
_CONTENT_TYPE: Final = re.compile(rf"{_GRPC}[+;].*")
_NUMBERS: Final = {code: cast(tuple[int, str], code.value)[0] for code in _Code}
_CODES: Final = {number: code for code, number in _NUMBERS.items()}


class ServerCall(ServerContext):
    """One call, and the context that its handler is given."""

    __slots__ = (
        "_begun",
        "_expiry",
        "_handler",
        "_inbox",
        "_packing",
        "_single",
        "_task",
        "_waiter",
        "_withheld",
    )

    def __init__(self, connection: "ServerConnection", number: int, most_bytes: int) -> None:
        super().__init__(connection, number, most_bytes)
        self._handler: Any = None
        self._packing = IDENTITY
        # Requests that nobody has taken yet, as they came: whether packed, and the bytes; the only
        # one of a call that has one.
        self._inbox: Final[deque[tuple[bool, bytes]]] = deque()
        self._single: tuple[bool, bytes] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        # Whether headers went out; the status, while it waits for a request.
        self._begun = False
        self._withheld = b""

    # What comes.

    def begin(self, said: Headers, *, ended: bool) -> None:
        """The call begins; later headers are trailers, which say nothing."""
        if self._handler is not None or self._ended:
            if not ended or any(name.startswith(":") for name, _ in said):
                raise StreamFault(frames.PROTOCOL_ERROR, "trailers that are none")
            self.end_there()
            return
        self.ended_there = ended
        try:
            named = headers.read_request(said, self._connection.known_names)
        except ValueError as error:
            raise StreamFault(frames.PROTOCOL_ERROR, str(error)) from None
        content_type = named.get("content-type", "")
        is_grpc = content_type == _GRPC or _CONTENT_TYPE.fullmatch(content_type)
        if not is_grpc or named[":method"] != "POST":
            self._refuse()
            return
        path = named[":path"]
        self._handler = self._connection.server.handler(path)
        if self._handler is None:
            self._end(_Code.UNIMPLEMENTED, f"Nothing is served as {path[:200]}.")
            return
        try:
            self._metadata = headers.metadata(said)
            timeout = named.get("grpc-timeout")
            if timeout is not None:
                seconds = headers.read_timeout(timeout)
                loop = self._connection.loop
                self._deadline = loop.time() + seconds
                self._expiry = loop.call_later(seconds, self._expire)
        except ValueError as error:
            self._end(_Code.INTERNAL, str(error))
            return
        self._packing = named.get("grpc-encoding", IDENTITY)
        if self._packing not in PACKINGS:
            text = f"Messages packed by {self._packing[:40]} are not read."
            self._end(_Code.UNIMPLEMENTED, text)
            return
        if self._handler.request_streaming:
            self._start()
        if ended:
            self.ended_by_peer()

    def message(self, packed: bool, content: bytes) -> None:
        """A request came."""
        self._connection.count_message()
        if self._ended:
            self._let_go_of_status()
            self.took(len(content))
            return
        if self._handler.request_streaming:
            # Unpacked when it is taken: a little may become a lot.
            self._inbox.append((packed, content))
            self._wake()
        elif self._single is None:
            self._single = packed, content
            self.took(len(content))
        else:
            self._fail(_Code.UNIMPLEMENTED, "More than one request for a call that takes one.")

    def too_large(self, size_bytes: int) -> None:
        """A request is larger than one may be."""
        self._fail(_Code.RESOURCE_EXHAUSTED, packing.too_large(size_bytes, self._most_bytes))

    def ended_by_peer(self) -> None:
        """All requests are here."""
        if self._ended or self._handler is None:
            self._let_go_of_status()
            return
        if self._handler.request_streaming:
            self._wake()
        elif self._single is None:
            self._end(_Code.INTERNAL, "The request is missing.")
        else:
            self._start()

    def broken(self, code: int, text: str) -> None:
        """Nobody waits for the answer any more."""
        if not self._ended:
            self._connection.count_end(failed=True)
        self._cancel()

    # What the handler uses, besides what a context has.

    async def send_initial_metadata(self, initial_metadata: Metadata) -> None:
        """Sends the headers now, with these. Raises ValueError for what cannot be sent."""
        self._begin(initial_metadata)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()
    ) -> None:
        """Ends the call so. Raises grpc.aio.AbortError."""
        if trailing_metadata:
            self.set_trailing_metadata(trailing_metadata)
        self._code, self._details = code, details
        self._end(code, details)
        raise grpc.aio.AbortError

    async def abort_with_status(self, status: Any) -> None:
        """As `abort`."""
        await self.abort(status.code, status.details or "", status.trailing_metadata or ())

    async def read(self) -> Any:
        """The next request; `grpc.aio.EOF` after the last."""
        return await self._next()

    async def write(self, response: Any) -> None:
        """Sends an answer of several, and returns when there is room for more."""
        if self._ended or self.closed:
            return
        content = message(self._write(response))
        self._begin()
        self._connection.messages_sent += 1
        await self.put_in_turn(content)

    # What becomes of it.

    def _refuse(self) -> None:
        """As gRPC answers who speaks something else."""
        self._ended = self._begun = True
        self._connection.count_end(failed=True)
        answer = headers.literal(":status", "415")
        self.finish(frame(HEADERS, END_HEADERS | END_STREAM, self.number, answer))
        self._turn_away()

    def _start(self) -> None:
        self._task = self._connection.loop.create_task(self._serve())
        self._connection.began(self._task)

    async def _serve(self) -> None:
        handler = self._handler
        try:
            request: Any = self._requests() if handler.request_streaming else self._only()
            if handler.response_streaming:
                await self._answer_each(handler, request)
                self._end(self._code or _Code.OK, self._details)
            else:
                behaviour = handler.unary_unary or handler.stream_unary
                answer = behaviour(request, self)
                self._answer(await answer if isawaitable(answer) else answer)
        except asyncio.CancelledError:
            if not self._ended:
                self._end(_Code.CANCELLED, "The call was cancelled.")
            raise
        except grpc.aio.AbortError:
            return
        except UnreadableMessage as error:
            self._end(error.code, str(error))
        except Exception as error:
            # Generated code says so that a method is not there: by its code, and then raises.
            if self._code is not None:
                self._end(self._code, self._details)
                return
            self._end(_Code.UNKNOWN, f"Unexpected {type(error).__name__}.")
            self._report(error)

    async def _answer_each(self, handler: Any, request: Any) -> None:
        behaviour = handler.unary_stream or handler.stream_stream
        if not isasyncgenfunction(behaviour):
            await behaviour(request, self)
            return
        answers = behaviour(request, self)
        sent = 0
        try:
            async for answer in answers:
                await self.write(answer)
                sent += 1
                # A handler that never waits would leave nobody else a turn.
                if not sent % _ANSWERS_A_TURN:
                    await asyncio.sleep(0)
        finally:
            await answers.aclose()

    def _answer(self, response: Any) -> None:
        """Sends the only answer, and the status, at once where there is room for both."""
        if self._ended or self.closed:
            return
        if self._code is not None and self._code is not _Code.OK:
            self._end(self._code, self._details)
            return
        content = message(self._write(response))
        self._connection.messages_sent += 1
        size, wire = len(content), self._connection
        room = min(self.window, wire.window, wire.most_frame_bytes)
        if self._begun or self._said_last or size > room:
            self._begin()
            self.put(content)
            self._end(_Code.OK, self._details)
            return
        self.window -= size
        self._connection.window -= size
        self._begun = self._ended = True
        self._connection.count_end(failed=False)
        number = self.number
        self.finish(
            frame(HEADERS, END_HEADERS, number, _BEGINNING)
            + frame(frames.DATA, 0, number, content)
            + frame(HEADERS, END_HEADERS | END_STREAM, number, _ENDED_WELL)
        )
        self._turn_away()

    def _begin(self, metadata: Metadata = ()) -> None:
        if not self._begun and not self.closed:
            content = _BEGINNING + headers.block(metadata)
            self._begun = True
            most = self._connection.most_frame_bytes
            self._connection.write(frames.header_frames(self.number, content, most, ended=False))

    def _end(self, code: grpc.StatusCode, details: str) -> None:
        """Sends the status, once; whoever still works on the call does so in vain."""
        if self._ended or self.closed:
            return
        if code is _Code.OK and not details and not self._said_last:
            content = _ENDED_WELL
        else:
            content = headers.literal("grpc-status", str(_NUMBERS[code]))
            if details:
                content += headers.literal("grpc-message", headers.message_header(details))
            content += self._said_last
        if not self._begun:
            content = _BEGINNING + content
        self._begun = self._ended = True
        self._connection.count_end(failed=code is not _Code.OK)
        most = self._connection.most_frame_bytes
        ending = frames.header_frames(self.number, content, most, ended=True)
        if self.is_untouched and not self.ended_there:
            self._withheld = ending
            self._connection.loop.call_later(_FIRST_SECONDS, self._let_go_of_status)
        else:
            self.finish(ending)
        self._turn_away()

    def _let_go_of_status(self) -> None:
        ending, self._withheld = self._withheld, b""
        if ending:
            self.finish(ending)

    def _fail(self, code: grpc.StatusCode, details: str) -> None:
        """Ends the call by what its caller has sent, and whoever works on it."""
        # What waits for a window is of no use to a call that has failed.
        self._outbox.clear()
        self._end(code, details)
        self._cancel()

    def _turn_away(self) -> None:
        """The call has ended: nobody takes what its caller still sends."""
        self._wake()
        self._is_done()

    def _close(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        super()._close()

    def _close_if_ended(self) -> None:
        if self.ended_here and not self.ended_there:
            # The answer is complete: the caller need send no more.
            self.reset(frames.NO_ERROR)
        super()._close_if_ended()

    def _expire(self) -> None:
        if self._ended:
            # The caller takes no answer.
            self.reset(frames.CANCEL)
        else:
            self._fail(_Code.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _cancel(self) -> None:
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()
        self._is_done()

    async def _requests(self) -> AsyncIterator[Any]:
        while (request := await self._next()) is not grpc.aio.EOF:
            yield request

    async def _next(self) -> Any:
        while not self._inbox:
            if self.ended_there or self._ended or self.closed:
                return grpc.aio.EOF
            self._waiter = self._connection.loop.create_future()
            await self._waiter
        packed, content = self._inbox.popleft()
        self.took(len(content))
        try:
            return self._read(packed, content)
        except UnreadableMessage as error:
            self._fail(error.code, str(error))
            raise asyncio.CancelledError from None

    def _only(self) -> Any:
        """The request of a call that has one."""
        assert self._single is not None
        (packed, content), self._single = self._single, None
        return self._read(packed, content)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _read(self, packed: bool, content: bytes) -> Any:
        if packed:
            content = packing.unpack(self._packing, content, self._most_bytes)
        read = self._handler.request_deserializer
        if read is None:
            return content
        try:
            return read(content)
        except Exception:
            raise UnreadableMessage("Exception deserializing request!") from None

    def _write(self, response: Any) -> bytes:
        write = self._handler.response_serializer
        try:
            return cast(bytes, response if write is None else write(response))
        except Exception as error:
            self._report(error)
            raise UnreadableMessage("Failed to serialize response!") from None

    def _report(self, error: Exception) -> None:
        self._connection.loop.call_exception_handler(
            {"message": "a handler failed", "exception": error}
        )
