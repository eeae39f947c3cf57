"""A call as its server sees it: what its handler is given, and how it is answered."""

import asyncio
import re
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from inspect import isasyncgenfunction, isawaitable
from typing import TYPE_CHECKING, Any, Final, cast

import grpc

from meshwire import frames, headers
from meshwire.frames import END_HEADERS, END_STREAM, HEADERS, StreamFault, frame
from meshwire.headers import Headers, Metadata
from meshwire.stream import Stream, message

if TYPE_CHECKING:
    from meshwire.server import ServerConnection

_Code = grpc.StatusCode
_CONTENT: Final = headers.block(
    (("content-type", "application/grpc"), ("grpc-accept-encoding", "identity, deflate, gzip"))
)
_BEGINNING: Final = headers.OK + _CONTENT
_ENDED_WELL: Final = headers.literal("grpc-status", "0")
_ANSWERS_A_TURN: Final = 16
# Window bits by which zlib reads what gRPC calls so.
_PACKINGS: Final = {"gzip": 31, "deflate": 15}
_CONTENT_TYPE: Final = re.compile(r"application/grpc([+;].*)?")
_NUMBERS: Final = {code: cast(tuple[int, str], code.value)[0] for code in _Code}
_CODES: Final = {number: code for code, number in _NUMBERS.items()}


class ServerCall(Stream):
    """One call, and the context that its handler is given.

    It has what handlers use of `grpc.aio.ServicerContext`, by the same names.
    """

    __slots__ = (
        "_begun",
        "_cancelled",
        "_code",
        "_connection",
        "_deadline",
        "_details",
        "_done",
        "_ended",
        "_expiry",
        "_handler",
        "_inbox",
        "_metadata",
        "_packing",
        "_said_last",
        "_single",
        "_task",
        "_trailing",
        "_waiter",
    )

    def __init__(self, connection: "ServerConnection", number: int, most_bytes: int) -> None:
        super().__init__(connection, number, most_bytes)
        self._connection: Final = connection
        self._handler: Any = None
        self._metadata: tuple[tuple[str, str | bytes], ...] = ()
        self._packing: int | None = None
        # The only request of a call that has one.
        self._single: bytes | None = None
        self._inbox: Final[deque[bytes]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._deadline: float | None = None
        self._expiry: asyncio.TimerHandle | None = None
        # Whether headers went out; whether the status did.
        self._begun = False
        self._ended = False
        self._cancelled = False
        self._code: _Code | None = None
        self._details = ""
        self._trailing: Metadata = ()
        # The same as it is sent.
        self._said_last = b""
        self._done: list[Callable[[Any], None]] = []

    # What comes.

    def begin(self, said: Headers, *, ended: bool) -> None:
        """The call begins; later headers are trailers, which say nothing."""
        if self._handler is not None or self._ended:
            if not ended:
                raise StreamFault(frames.PROTOCOL_ERROR, "trailers that do not end the call")
            self.end_there()
            return
        named = dict(said)
        if not self._is_grpc(named):
            return
        path = named.get(":path", "")
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
        packing = named.get("grpc-encoding", "identity")
        if packing != "identity":
            self._packing = _PACKINGS.get(packing)
            if self._packing is None:
                self._end(_Code.UNIMPLEMENTED, f"Messages packed by {packing[:40]} are not read.")
                return
        if self._handler.request_streaming:
            self._start()
        if ended:
            self.end_there()

    def message(self, packed: bool, content: bytes) -> None:
        """A request came."""
        self._connection.count_message()
        if self._ended:
            self.took(len(content))
            return
        size = len(content)
        if packed:
            unpacked = self._unpack(content)
            if unpacked is None:
                return
            content = unpacked
        if self._handler is not None and self._handler.request_streaming:
            self._inbox.append(content)
            # Counted as it came.
            self._unread += len(content) - size
            self._wake()
        elif self._single is None:
            self._single = content
            self.took(size)
        else:
            self._fail(_Code.UNIMPLEMENTED, "More than one request for a call that takes one.")

    def too_large(self, size_bytes: int) -> None:
        """A request is larger than one may be."""
        self._fail(
            _Code.RESOURCE_EXHAUSTED,
            f"Received message larger than max ({size_bytes} vs. {self._most_bytes})",
        )

    def ended_by_peer(self) -> None:
        """All requests are here."""
        if self._ended or self._handler is None:
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

    # What the handler uses: grpc.aio.ServicerContext.

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What came with the call."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None without one."""
        if self._deadline is None:
            return None
        return max(self._deadline - self._connection.loop.time(), 0.0)

    def peer(self) -> str:
        """The address of the other end, as gRPC writes it."""
        return self._connection.peer

    def peer_identities(self) -> Sequence[bytes] | None:
        """The names in the certificate of the other end; None without one."""
        return self._connection.peer_identities

    def auth_context(self) -> dict[str, list[bytes]]:
        """What the certificate of the other end says, as gRPC names it; empty in plain text."""
        return self._connection.auth_context()

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Sends them at the end. Raises ValueError for what cannot be sent."""
        self._said_last = headers.block(trailing_metadata)
        self._trailing = trailing_metadata

    def trailing_metadata(self) -> Metadata:
        """What is sent at the end."""
        return self._trailing

    def set_code(self, code: grpc.StatusCode) -> None:
        """Ends the call with it."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Ends the call with that text."""
        self._details = details

    def code(self) -> grpc.StatusCode | None:
        """What the call ends with, if the handler has said so."""
        return self._code

    def details(self) -> str:
        """The text that the call ends with."""
        return self._details

    def cancelled(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._cancelled

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._ended or self.closed

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Calls it once the call has ended."""
        self._done.append(callback)

    async def send_initial_metadata(self, initial_metadata: Metadata) -> None:
        """Sends the headers now, with these. Raises ValueError for what cannot be sent."""
        self._begin(initial_metadata)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()
    ) -> None:
        """Ends the call so. Raises grpc.aio.AbortError."""
        self._code, self._details = code, details
        if trailing_metadata:
            self.set_trailing_metadata(trailing_metadata)
        self._end(code, details)
        raise grpc.aio.AbortError

    async def abort_with_status(self, status: Any) -> None:
        """As `abort`."""
        await self.abort(status.code, status.details or "", status.trailing_metadata or ())

    async def read(self) -> Any:
        """The next request; `grpc.aio.EOF` after the last."""
        content = await self._next()
        return grpc.aio.EOF if content is None else self._read(content)

    async def write(self, response: Any) -> None:
        """Sends an answer of several, and returns when there is room for more."""
        if self._ended or self.closed:
            return
        content = message(self._write(response))
        self._connection.messages_sent += 1
        self._begin()
        await self.put_in_turn(content)

    # What becomes of it.

    def _is_grpc(self, said: dict[str, str]) -> bool:
        is_post = said.get(":method") == "POST"
        if is_post and _CONTENT_TYPE.fullmatch(said.get("content-type", "")):
            return True
        if not said.get(":method") or not said.get(":path"):
            raise StreamFault(frames.PROTOCOL_ERROR, "headers without a method or a path")
        self._ended = self._begun = True
        self._connection.count_end(failed=True)
        answer = headers.literal(":status", "415")
        self.finish(frame(HEADERS, END_HEADERS | END_STREAM, self.number, answer))
        self._turn_away()
        return False

    def _start(self) -> None:
        self._task = self._connection.loop.create_task(self._serve())
        self._connection.began(self._task)

    async def _serve(self) -> None:
        handler = self._handler
        try:
            request: Any = (
                self._requests() if handler.request_streaming else self._read(self._single or b"")
            )
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
        except _Unreadable as error:
            self._end(_Code.INTERNAL, str(error))
        except Exception as error:
            # Generated code says so that a method is not there: by its code, and then raises.
            if self._code is not None:
                self._end(self._code, self._details)
                return
            self._end(_Code.UNKNOWN, f"Unexpected {type(error).__name__}.")
            self._report(error)
        finally:
            if self._expiry is not None:
                self._expiry.cancel()

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
        self.finish(frames.header_frames(self.number, content, most, ended=True))
        self._turn_away()

    def _fail(self, code: grpc.StatusCode, details: str) -> None:
        """Ends the call by what its caller has sent, and whoever works on it."""
        self._end(code, details)
        self._cancel()

    def _turn_away(self) -> None:
        """The call has ended: nobody takes what its caller still sends."""
        self._wake()
        done, self._done = self._done, []
        for callback in done:
            callback(self)

    def _close_if_ended(self) -> None:
        if self.ended_here and not self.ended_there:
            # The answer is complete: the caller need send no more.
            self.reset(frames.NO_ERROR)
        super()._close_if_ended()

    def _expire(self) -> None:
        self._fail(_Code.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _cancel(self) -> None:
        self._cancelled = True
        if self._expiry is not None:
            self._expiry.cancel()
        if self._task is not None:
            self._task.cancel()
        done, self._done = self._done, []
        for callback in done:
            callback(self)

    async def _requests(self) -> AsyncIterator[Any]:
        while (content := await self._next()) is not None:
            yield self._read(content)

    async def _next(self) -> bytes | None:
        while not self._inbox:
            if self.ended_there or self._ended or self.closed:
                return None
            self._waiter = self._connection.loop.create_future()
            await self._waiter
        content = self._inbox.popleft()
        self.took(len(content))
        return content

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _read(self, content: bytes) -> Any:
        read = self._handler.request_deserializer
        if read is None:
            return content
        try:
            return read(content)
        except Exception:
            raise _Unreadable("Exception deserializing request!") from None

    def _write(self, response: Any) -> bytes:
        write = self._handler.response_serializer
        try:
            return cast(bytes, response if write is None else write(response))
        except Exception as error:
            self._report(error)
            raise _Unreadable("Failed to serialize response!") from None

    def _report(self, error: Exception) -> None:
        self._connection.loop.call_exception_handler(
            {"message": "a handler failed", "exception": error}
        )

    def _unpack(self, content: bytes) -> bytes | None:
        """None where the call has failed by it."""
        if self._packing is None:
            self._fail(_Code.INTERNAL, "A packed message in a call that names no packing.")
            return None
        reader = zlib.decompressobj(self._packing)
        try:
            unpacked = reader.decompress(content, self._most_bytes + 1)
        except zlib.error:
            self._fail(_Code.INTERNAL, "A packed message that cannot be unpacked.")
            return None
        if not reader.eof and len(unpacked) <= self._most_bytes:
            self._fail(_Code.INTERNAL, "A packed message that is not complete.")
            return None
        if len(unpacked) > self._most_bytes:
            self.too_large(len(unpacked))
            return None
        return unpacked


class _Unreadable(Exception):
    """A message that its codec refuses."""
