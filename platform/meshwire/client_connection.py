"""A connection of a channel to its server, and how calls begin on it."""

import asyncio
from collections.abc import AsyncIterable, Callable
from typing import Any, Final, Protocol, cast

from meshwire import frames, headers
from meshwire.client_call import ClientCall
from meshwire.client_stream import ClientStream
from meshwire.connection import Connection
from meshwire.frames import ConnectionFault
from meshwire.headers import Headers

_Write = Callable[[Any], bytes]
# A client begins no more streams on a connection than there are odd numbers.
_LAST_NUMBER: Final = frames.LAST_STREAM - 2


class Owner(Protocol):
    """What a connection needs of its channel."""

    def go_on(self) -> None:
        """Begins what waits, as far as there is room for it."""
        ...

    def leave(self, connection: "ClientConnection") -> None:
        """No call begins there any more."""
        ...

    def gone(self, connection: "ClientConnection") -> None:
        """The connection is no more."""
        ...


class Beginning:
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

    def __init__(
        self,
        owner: Owner,
        *,
        most_message_bytes: int,
        keepalive_seconds: float,
        keepalive_timeout_seconds: float,
    ) -> None:
        super().__init__(
            {frames.ENABLE_PUSH: 0},
            keepalive_seconds=keepalive_seconds,
            keepalive_timeout_seconds=keepalive_timeout_seconds,
        )
        self._owner: Final = owner
        self._most_bytes: Final = most_message_bytes
        self._next = 1
        self._most_streams = frames.LAST_STREAM
        # Why the server did not begin to speak HTTP/2; None where it has.
        self._greeting: Final[asyncio.Future[str | None]] = self._loop.create_future()
        self._over: Final[asyncio.Future[None]] = self._loop.create_future()
        self._is_ending = False

    @property
    def has_room(self) -> bool:
        """Whether another call may begin."""
        return not self._is_left and len(self.streams) < self._most_streams

    async def greeted(self) -> None:
        """Returns when calls may begin. Raises ConnectionError where that never happens.

        By then a server has also looked at the client's certificate, and says how many calls
        it takes.
        """
        why = await self._greeting
        if why is not None or self._is_left:
            raise ConnectionError(f"it did not begin to speak HTTP/2: {why or 'it left'}")

    def begin(self, beginning: Beginning) -> None:
        """Begins a call."""
        number, self._next = self._next, self._next + 2
        stream = ClientStream(self, number, self._most_bytes, beginning.call)
        self.streams[number] = stream
        beginning.go(stream)
        if number >= _LAST_NUMBER:
            self._owner.leave(self)

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
        self._owner.leave(self)
        for number, stream in tuple(self.streams.items()):
            if number > last_stream:
                cast(ClientStream, stream).refused()

    def settings_changed(self, values: dict[int, int]) -> None:
        """The server takes calls, and so many at a time."""
        self._most_streams = values.get(frames.MAX_CONCURRENT_STREAMS, self._most_streams)
        if not self._greeting.done():
            self._greeting.set_result(None)
        self._owner.go_on()

    def forget(self, stream: Any) -> None:
        """A call has ended."""
        was_full = not self.has_room
        super().forget(stream)
        if self._is_ending:
            self._close_if_over()
        elif was_full:
            self._owner.go_on()

    def ended(self, why: str) -> None:
        """The server, or the way to it, is gone."""
        if not self._greeting.done():
            self._greeting.set_result(why)
        if not self._over.done():
            self._over.set_result(None)
        self._owner.gone(self)

    @property
    def _is_left(self) -> bool:
        return self.lost or self._is_ending

    def _close_if_over(self) -> None:
        if not self.streams and not self.lost:
            self.close()
