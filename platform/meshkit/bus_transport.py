"""nats-py's way to the server, on a protocol of the loop instead of streams.

What comes is handed on within the turn of the loop that read it, where a stream
would wake a task for it.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final, cast
from urllib.parse import ParseResult

from nats.aio.transport import Transport

from meshkit.time_limit import within

_LINE_END: Final = b"\n"
# As much may wait to be written before `drain` waits, in bytes.
_WRITE_BUFFER_BYTES: Final = 1024 * 1024

Take = Callable[[bytes], None]


class DirectTransport(Transport):
    """A TCP connection, plain or with TLS; connects as often as it is asked to."""

    def __init__(self) -> None:
        self._connection = _Connection()

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Connects anew. Raises OSError, and TimeoutError after `connect_timeout` seconds."""
        connection = _Connection()
        with within(connect_timeout):
            await asyncio.get_running_loop().create_connection(
                lambda: connection, uri.hostname or "", uri.port or 0
            )
        self._connection = connection

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,
        connect_timeout: int,
    ) -> None:
        """Goes on with TLS. Raises OSError, and TimeoutError after `connect_timeout` seconds."""
        with within(connect_timeout):
            await self._connection.start_tls(
                ssl_context, uri if isinstance(uri, str) else uri.hostname
            )

    def write(self, payload: bytes) -> None:
        """Sends `payload` with the next turn of the loop."""
        self._connection.write(payload)

    def writelines(self, payload: list[bytes]) -> None:
        """Sends all of `payload` with the next turn of the loop."""
        self._connection.write(payload[0] if len(payload) == 1 else b"".join(payload))

    async def read(self, buffer_size: int) -> bytes:
        """What came and was not handed on. Empty at the end of the connection."""
        return await self._connection.read()

    async def readline(self) -> bytes:
        """One line; what there is of it where the connection ends."""
        return await self._connection.read_line()

    @property
    def has_room(self) -> bool:
        """Whether `drain` would return at once."""
        return self._connection.has_room

    async def drain(self) -> None:
        """Returns when not too much waits to be written. Raises OSError at the end."""
        await self._connection.drain()

    async def hand_on(self, take: Take) -> None:
        """Calls `take` with all that comes, until the connection ends. Raises its OSError."""
        await self._connection.hand_on(take)

    async def wait_closed(self) -> None:
        """Returns when the connection has ended."""
        await self._connection.wait_ended()

    def close(self) -> None:
        """Ends the connection after what is to be written."""
        self._connection.close()

    def at_eof(self) -> bool:
        """Whether nothing more can come."""
        return self._connection.ended

    def __bool__(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Always: it need not be made anew for another connection."""
        return True


class _Connection(asyncio.Protocol):
    """One connection, from its beginning to its end."""

    def __init__(self) -> None:
        self._wire: asyncio.Transport | None = None
        self._buffer: Final = bytearray()
        self._take: Take | None = None
        # Set when something changed for whoever waits here.
        self._changed: Final = asyncio.Event()
        self._may_write: Final = asyncio.Event()
        self._end: BaseException | None = None
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        self._wire.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        self._may_write.set()

    def data_received(self, data: bytes) -> None:
        if self._take is None:
            self._buffer.extend(data)
            self._changed.set()
        else:
            self._take(data)

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended, self._end = True, exc
        self._changed.set()
        self._may_write.set()

    async def start_tls(self, context: ssl.SSLContext, host: str | None) -> None:
        assert self._wire is not None
        loop: Any = asyncio.get_running_loop()
        self._wire = await loop.start_tls(self._wire, self, context, server_hostname=host)

    def write(self, data: bytes) -> None:
        if self._wire is not None:
            self._wire.write(data)

    @property
    def has_room(self) -> bool:
        return self._may_write.is_set() and not self.ended

    async def drain(self) -> None:
        await self._may_write.wait()
        self._raise_end()

    async def read(self) -> bytes:
        while not self._buffer and not self.ended:
            await self._change()
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    async def read_line(self) -> bytes:
        while (end := self._buffer.find(_LINE_END)) < 0 and not self.ended:
            await self._change()
        size = end + 1 if end >= 0 else len(self._buffer)
        line = bytes(self._buffer[:size])
        del self._buffer[:size]
        return line

    async def hand_on(self, take: Take) -> None:
        if self._buffer:
            take(await self.read())
        self._take = take
        await self.wait_ended()
        self._raise_end()

    async def wait_ended(self) -> None:
        while self._wire is not None and not self.ended:
            await self._change()

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _raise_end(self) -> None:
        if self._end is not None:
            raise self._end
        if self.ended:
            raise ConnectionResetError("the connection has ended")
