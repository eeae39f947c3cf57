"""A gRPC channel on the event loop itself, to one address, such as a proxy's."""

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import uniform
from typing import Any, Final, cast

import grpc

from meshwire import frames, headers
from meshwire.client_call import ClientCall
from meshwire.client_connection import Beginning, ClientConnection
from meshwire.connecting import connected
from meshwire.stream import message

_State = grpc.ChannelConnectivity
_Metadata = Sequence[tuple[str, str | bytes]]
# As gRPC waits between attempts to connect (its page on connection backoff).
_PAUSE_FACTOR: Final = 1.6
_PAUSE_SPREAD: Final = 0.2
_CLOSED: Final = "The channel is closed."
# What errors mean that have no text.
_UNSAID: Final[dict[type[Exception], str]] = {
    TimeoutError: "it does not answer",
    ConnectionResetError: "it broke the connection off",
}


@dataclass(frozen=True, slots=True)
class Reach:
    """How a channel connects. In seconds where not said otherwise."""

    most_message_bytes: int
    connect_seconds: float = 2.0
    # From the beginning of one attempt to connect to that of the next, growing from the first to
    # the second while none lasts; each a fifth more or less.
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
        # When the next attempt may begin, and how long after it the one after that.
        self._connect_at = self._loop.time()
        self._pause = reach.first_pause_seconds
        # Why the last attempt failed; None since one did not.
        self._failure: str | None = None
        self._waiting: Final[OrderedDict[ClientCall, Beginning]] = OrderedDict()
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
        self._fail_waiting(_CLOSED)
        here = {self._connection} if self._connection else set[ClientConnection]()
        ends = [each.end() for each in here | self._left]
        if ends and grace:
            await asyncio.wait(ends, timeout=grace)
        for each in here | self._left:
            each.abort(frames.NO_ERROR, _CLOSED)
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
        """Returns when the channel is connected. Raises UsageError where it is closed."""
        while (state := self.get_state(try_to_connect=True)) is not _State.READY:
            if state is _State.SHUTDOWN:
                raise grpc.aio.UsageError(_CLOSED)
            await self.wait_for_state_change(state)

    async def __aenter__(self) -> "WireChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _kind(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
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
                begin = Beginning(made, own, timeout, self._loop, requests=request, write=write)
            else:
                made = ClientCall(method, response_deserializer, self._begin_again, unseen)
                content = message(write(request))
                begin = Beginning(made, own, timeout, self._loop, content=content)
            made.beginning = begin
            if timeout is not None:
                made.limit(timeout)
            self._begin(begin)
            return made

        return call

    def _begin(self, beginning: Beginning) -> None:
        self._look_at_certificates()
        connection = self._connection
        if self._state is _State.SHUTDOWN:
            beginning.call.ended(grpc.StatusCode.UNAVAILABLE, _CLOSED, ())
        elif connection is not None and not self._waiting and connection.has_room:
            connection.begin(beginning)
        elif self._failure is not None:
            beginning.call.ended(grpc.StatusCode.UNAVAILABLE, self._failure, ())
        else:
            self._waiting[beginning.call] = beginning
            beginning.call.add_done_callback(self._waits_no_more)
            if connection is None:
                self._connect()

    def _begin_again(self, call: ClientCall) -> None:
        self._begin(cast(Beginning, call.beginning))

    def _waits_no_more(self, call: ClientCall) -> None:
        self._waiting.pop(call, None)

    # How it is connected.

    def _look_at_certificates(self) -> None:
        if self._tls is None or self._connection is None:
            return
        try:
            newest = self._tls()
        except OSError:
            # Amid being replaced, they may not belong together. Who connects is told of them.
            return
        if newest is not self._context:
            self.leave(self._connection)

    def _connect(self) -> None:
        if self._connecting is None and self._state is not _State.SHUTDOWN:
            if self._loop.time() > self._connect_at + self._reach.longest_pause_seconds:
                # The last connection has lasted.
                self._pause = self._reach.first_pause_seconds
            self._set_state(_State.CONNECTING)
            self._connecting = self._loop.create_task(self._until_connected())

    async def _until_connected(self) -> None:
        while True:
            await asyncio.sleep(max(self._connect_at - self._loop.time(), 0.0))
            # Those who have lost the same server do not all come back at once.
            pause = self._pause * uniform(1 - _PAUSE_SPREAD, 1 + _PAUSE_SPREAD)
            self._connect_at = self._loop.time() + pause
            self._pause = min(self._pause * _PAUSE_FACTOR, self._reach.longest_pause_seconds)
            try:
                async with asyncio.timeout(self._reach.connect_seconds):
                    connection = await self._open()
                break
            except Exception as error:
                why = str(error) or _UNSAID.get(type(error), type(error).__name__)
                self._failure = f"Failed to connect to {self._target}: {why}"
                self._set_state(_State.TRANSIENT_FAILURE)
                self._fail_waiting(self._failure)
        self._connection, self._connecting, self._failure = connection, None, None
        self._set_state(_State.READY)
        self.go_on()

    async def _open(self) -> ClientConnection:
        self._context = self._tls() if self._tls is not None else None
        host = self._host.strip("[]")
        connection = await connected(
            partial(self._loop.create_connection, host=host, port=self._port),
            self._made,
            self._context,
            handshake_seconds=self._reach.connect_seconds,
            called=host,
        )
        try:
            await connection.greeted()
        except BaseException:
            connection.abort(frames.NO_ERROR, "")
            raise
        return connection

    def _made(self) -> ClientConnection:
        return ClientConnection(
            self,
            most_message_bytes=self._reach.most_message_bytes,
            keepalive_seconds=self._reach.keepalive_seconds,
            keepalive_timeout_seconds=self._reach.keepalive_timeout_seconds,
        )

    def go_on(self) -> None:
        """Begins what waits, as far as there is room for it."""
        while self._waiting:
            connection = self._connection
            if connection is None:
                self._connect()
                return
            if not connection.has_room:
                return
            _, beginning = self._waiting.popitem(last=False)
            connection.begin(beginning)

    def leave(self, connection: ClientConnection) -> None:
        """No call begins there any more."""
        if self._connection is connection:
            self._connection = None
            if self._state is _State.READY:
                self._set_state(_State.IDLE)
            self._loop.call_soon(self.go_on)
        if not connection.lost:
            self._left.add(connection)
            connection.end()

    def gone(self, connection: ClientConnection) -> None:
        """The connection is no more."""
        self.leave(connection)
        self._left.discard(connection)

    def _fail_waiting(self, why: str) -> None:
        for call in tuple(self._waiting):
            call.ended(grpc.StatusCode.UNAVAILABLE, why, ())

    def _set_state(self, state: grpc.ChannelConnectivity) -> None:
        if self._state is not _State.SHUTDOWN and state is not self._state:
            self._state = state
            self._changed.set()
