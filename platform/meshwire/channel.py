"""A gRPC channel on the event loop itself, to one address, such as a proxy's."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import grpc

from meshwire import frames, headers
from meshwire.client_call import ClientCall, ClientStream
from meshwire.connection import Connection
from meshwire.frames import ConnectionFault
from meshwire.headers import Headers
from meshwire.stream import message

_State = grpc.ChannelConnectivity
_Metadata = Sequence[tuple[str, str | bytes]]
_Write = Callable[[Any], bytes]
_PAUSE_FACTOR: Final = 1.6
# A client begins no more streams on a connection than there are odd numbers.
_LAST_NUMBER: Final = frames.LAST_STREAM - 2


@dataclass(frozen=True, slots=True)
class Reach:
    """How a channel connects. In seconds where not said otherwise."""

    most_message_bytes: int
    connect_seconds: float = 2.0
    # Between two attempts to connect, growing from the first to the second.
    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 2.0
    # A server that is silent while calls are under way is pinged after the first, and given up
    # after the second.
    keepalive_seconds: float = 60.0
    keepalive_timeout_seconds: float = 10.0
    # Trailing metadata of calls that nobody has seen.
    unseen: tuple[tuple[str, str], ...] = ()


class WireChannel(grpc.aio.Channel):
    """Makes the calls of stubs, as grpc.aio's own channel does."""

    def __init__(
        self, target: str, reach: Reach, tls: Callable[[], ssl.SSLContext] | None = None
    ) -> None:
        """`target`: host:port. Made inside the event loop; connects at the first call.

        `tls`: asked before each call; another context than before makes a new connection, and
        calls that are under way end where they began.
        """
        self._host, _, port = target.rpartition(":")
        self._port: Final = int(port)
        self._target: Final = target
        self._reach: Final = reach
        self._tls: Final = tls
        self._context: ssl.SSLContext | None = None
        self._loop: Final = asyncio.get_running_loop()
        self._connection: ClientConnection | None = None
        # Those that are left, until what is under way on them has ended.
        self._left: Final[set[ClientConnection]] = set()
        self._connecting: asyncio.Task[None] | None = None
        # Why the last attempt failed; None since one did not.
        self._failure: str | None = None
        self._waiting: Final[deque[_Beginning]] = deque()
        self._state = _State.IDLE
        self._changed: Final = asyncio.Event()

    # What stubs use.

    def unary_unary(self, method: Any, *codec: Any, **named: Any) -> Any:
        """As of any channel."""
        return self._kind(method, *codec, streams=False, **named)

    def unary_stream(self, method: Any, *codec: Any, **named: Any) -> Any:
        """As of any channel."""
        return self._kind(method, *codec, streams=False, **named)

    def stream_unary(self, method: Any, *codec: Any, **named: Any) -> Any:
        """As of any channel."""
        return self._kind(method, *codec, streams=True, **named)

    def stream_stream(self, method: Any, *codec: Any, **named: Any) -> Any:
        """As of any channel."""
        return self._kind(method, *codec, streams=True, **named)

    async def close(self, grace: float | None = None) -> None:
        """Ends the channel; calls in flight get `grace` seconds."""
        self._set_state(_State.SHUTDOWN)
        if self._connecting is not None:
            self._connecting.cancel()
        self._fail_waiting("the channel is closed")
        here = {self._connection} if self._connection else set[ClientConnection]()
        ends = [each.end() for each in here | self._left]
        if ends and grace:
            await asyncio.wait(ends, timeout=grace)
        for each in here | self._left:
            each.abort(frames.NO_ERROR, "the channel is closed")
        if self._connecting is not None:
            await asyncio.wait([self._connecting])

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Whether the channel is connected."""
        if try_to_connect and self._state is _State.IDLE:
            self._connect()
        return self._state

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns when the state is another one."""
        while self._state is last_observed_state:
            self._changed.clear()
            await self._changed.wait()

    async def channel_ready(self) -> None:
        """Returns when the channel is connected."""
        while (state := self.get_state(try_to_connect=True)) is not _State.READY:
            await self.wait_for_state_change(state)

    async def __aenter__(self) -> "WireChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _kind(
        self,
        method: str,
        request_serializer: _Write | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        *,
        streams: bool,
        **_: Any,
    ) -> Any:
        write = request_serializer or bytes
        block = headers.request_block(self._target, method, tls=self._tls is not None)
        unseen = self._reach.unseen

        def call(
            request: Any, *, timeout: float | None = None, metadata: _Metadata = ()
        ) -> ClientCall:
            own = block + headers.block(metadata)
            made: ClientCall
            if streams:
                made = ClientCall(method, response_deserializer, None, unseen)
                begin = _Beginning(made, own, timeout, self._loop, requests=request, write=write)
            else:
                made = ClientCall(method, response_deserializer, self._begin_again, unseen)
                content = message(write(request))
                begin = _Beginning(made, own, timeout, self._loop, content=content)
            made.beginning = begin
            if timeout is not None:
                made.limit(timeout)
            self._begin(begin)
            return made

        return call

    def _begin(self, beginning: "_Beginning") -> None:
        self._look_at_certificates()
        connection = self._connection
        if connection is not None and not self._waiting and connection.has_room:
            connection.begin(beginning)
            return
        if self._state is _State.SHUTDOWN:
            beginning.call.ended(grpc.StatusCode.CANCELLED, "The channel is closed.", ())
        elif self._failure is not None:
            beginning.call.ended(grpc.StatusCode.UNAVAILABLE, self._failure, ())
        else:
            self._waiting.append(beginning)
            if connection is None:
                self._connect()

    def _begin_again(self, call: ClientCall) -> None:
        self._begin(cast(_Beginning, call.beginning))

    # How it is connected.

    def _look_at_certificates(self) -> None:
        if self._tls is None:
            return
        newest = self._tls()
        if newest is not self._context:
            self._context = newest
            if self._connection is not None:
                self.leave(self._connection)

    def _connect(self) -> None:
        if self._connecting is None and self._state is not _State.SHUTDOWN:
            self._set_state(_State.CONNECTING)
            self._connecting = self._loop.create_task(self._until_connected())
            self._connecting.add_done_callback(self._has_connected)

    async def _until_connected(self) -> None:
        pause = self._reach.first_pause_seconds
        while True:
            begun = self._loop.time()
            try:
                async with asyncio.timeout(self._reach.connect_seconds):
                    self._connection = await self._open()
                break
            except (OSError, TimeoutError, ConnectionFault) as error:
                why = str(error) or "it does not answer"
                self._failure = f"Failed to connect to {self._target}: {why}"
                self._set_state(_State.TRANSIENT_FAILURE)
                self._fail_waiting(self._failure)
                await asyncio.sleep(max(begun + pause - self._loop.time(), 0.0))
                pause = min(pause * _PAUSE_FACTOR, self._reach.longest_pause_seconds)
        self._failure = None
        self._set_state(_State.READY)
        self.go_on()

    async def _open(self) -> "ClientConnection":
        self._context = self._tls() if self._tls is not None else None
        _, connection = await self._loop.create_connection(
            lambda: ClientConnection(self, self._reach),
            self._host.strip("[]"),
            self._port,
            ssl=self._context,
            server_hostname=self._host.strip("[]") if self._context is not None else None,
        )
        return connection

    def _has_connected(self, task: asyncio.Task[None]) -> None:
        self._connecting = None
        if not task.cancelled() and task.exception() is not None:
            self._failure = None
            self._fail_waiting(f"Failed to connect to {self._target}: {task.exception()}")
            self._set_state(_State.IDLE)

    def go_on(self) -> None:
        """Begins what waits, as far as there is room for it."""
        while self._waiting:
            connection = self._connection
            if connection is None:
                self._connect()
                return
            if not connection.has_room:
                return
            beginning = self._waiting.popleft()
            if not beginning.call.is_over:
                connection.begin(beginning)

    def leave(self, connection: "ClientConnection") -> None:
        """No call begins there any more."""
        if self._connection is connection:
            self._connection = None
            if self._state is _State.READY:
                self._set_state(_State.IDLE)
            self._loop.call_soon(self.go_on)
        if not connection.lost:
            self._left.add(connection)
            connection.end()

    def gone(self, connection: "ClientConnection") -> None:
        """The connection is no more."""
        self.leave(connection)
        self._left.discard(connection)

    def _fail_waiting(self, why: str) -> None:
        waiting = tuple(self._waiting)
        self._waiting.clear()
        for each in waiting:
            each.call.ended(grpc.StatusCode.UNAVAILABLE, why, ())

    def _set_state(self, state: grpc.ChannelConnectivity) -> None:
        if self._state is not _State.SHUTDOWN and state is not self._state:
            self._state = state
            self._changed.set()


class _Beginning:
    """What a call begins with, wherever it does."""

    __slots__ = ("_block", "_content", "_give_up_at", "_loop", "_requests", "_write", "call")

    def __init__(
        self,
        call: ClientCall,
        block: bytes,
        timeout: float | None,
        loop: asyncio.AbstractEventLoop,
        *,
        content: bytes = b"",
        requests: AsyncIterable[Any] | None = None,
        write: _Write = bytes,
    ) -> None:
        self.call: Final = call
        self._block: Final = block
        self._loop: Final = loop
        self._give_up_at: Final = None if timeout is None else loop.time() + timeout
        self._content: Final = content
        self._requests: Final = requests
        self._write: Final = write

    def go(self, stream: ClientStream) -> None:
        """Sends it there."""
        block = self._block
        if self._give_up_at is not None:
            block += headers.timeout_header(self._give_up_at - self._loop.time())
        self.call.on(stream)
        if self._requests is not None:
            stream.open(block)
            self.call.send(stream, self._requests, self._write)
        else:
            stream.open_with(block, self._content)


class ClientConnection(Connection):
    """One connection to a server."""

    def __init__(self, channel: WireChannel, reach: Reach) -> None:
        super().__init__(
            {frames.ENABLE_PUSH: 0},
            keepalive_seconds=reach.keepalive_seconds,
            keepalive_timeout_seconds=reach.keepalive_timeout_seconds,
        )
        self._channel: Final = channel
        self._most_bytes: Final = reach.most_message_bytes
        self._next = 1
        self._most_streams = frames.LAST_STREAM
        self._over: Final[asyncio.Future[None]] = self._loop.create_future()
        self._is_ending = False

    @property
    def has_room(self) -> bool:
        """Whether another call may begin."""
        return len(self.streams) < self._most_streams

    def begin(self, beginning: _Beginning) -> None:
        """Begins a call."""
        number, self._next = self._next, self._next + 2
        stream = ClientStream(self, number, self._most_bytes, beginning.call)
        self.streams[number] = stream
        beginning.go(stream)
        if number >= _LAST_NUMBER:
            self._channel.leave(self)

    def end(self) -> asyncio.Future[None]:
        """Ends with the last call that is under way; done then."""
        self._is_ending = True
        self._close_if_over()
        return self._over

    def opening(self) -> bytes:
        """The preface of HTTP/2."""
        return frames.PREFACE

    def is_idle(self, number: int) -> bool:
        """Whether no call has that number yet."""
        return number >= self._next or number % 2 == 0

    def is_watched(self) -> bool:
        """Only while somebody waits: a server may end an idle connection."""
        return bool(self.streams)

    def headers_received(self, number: int, headers: Headers, *, ended: bool) -> None:
        """A call is answered."""
        stream = self.streams.get(number)
        if stream is not None:
            stream.begin(headers, ended=ended)
        elif self.is_idle(number):
            raise ConnectionFault(frames.PROTOCOL_ERROR, "an answer to no call")

    def told_to_leave(self, last_stream: int, code: int, text: str) -> None:
        """The server takes no call after that one."""
        self._channel.leave(self)
        for number, stream in tuple(self.streams.items()):
            if number > last_stream:
                cast(ClientStream, stream).refused()

    def most_streams_changed(self, most: int) -> None:
        """The server takes so many calls at a time."""
        self._most_streams = most
        self._channel.go_on()

    def forget(self, stream: Any) -> None:
        """A call has ended."""
        was_full = not self.has_room
        super().forget(stream)
        if self._is_ending:
            self._close_if_over()
        elif was_full:
            self._channel.go_on()

    def ended(self) -> None:
        """The server, or the way to it, is gone."""
        if not self._over.done():
            self._over.set_result(None)
        self._channel.gone(self)

    def _close_if_over(self) -> None:
        if not self.streams and not self.lost:
            self.close()
