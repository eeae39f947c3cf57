"""One connection to a server that speaks HTTP/1.1: one request at a time, and its answer."""

import asyncio
import re
from typing import Final, cast

import httpx2

from services.reasoning.http_body import Body
from services.reasoning.http_head import MOST_HEAD_BYTES, Head, NotHttp, read_head

# Of an answer that nobody takes: what comes beyond stays with the sender.
_MOST_WAITING_BYTES: Final = 256 * 1024
# Found quicker than with the carriage return of the line before it, which is left to that line.
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")


class HttpConnection(asyncio.Protocol):
    """Made by `loop.create_connection`. Every method fails with httpx2's errors."""

    def __init__(self) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._received: Final = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._asked = False
        self._paused = False
        self._ended = False
        self._body: Body | None = None
        self._lasting = False
        # When it was left idle, in the loop's seconds.
        self.idle_since = 0.0

    @property
    def closed(self) -> bool:
        """Whether it is of no use any more."""
        return self._ended or self._transport.is_closing()

    @property
    def complete(self) -> bool:
        """Whether the body has been read to its end."""
        return self._body is not None and self._body.complete

    @property
    def reusable(self) -> bool:
        """Whether another request can follow: the answer was taken whole, and nothing more came."""
        return (
            self._lasting
            and self.complete
            and not self._received
            and not self.closed
            and self._transport.get_write_buffer_size() == 0
        )

    async def ask(self, request: bytes, read_seconds: float | None) -> Head:
        """Sends a request; the head of its answer. Raises ReadTimeout and TransportErrors."""
        self._asked = True
        self._body = None
        self._transport.write(request)
        while True:
            while (blank := _BLANK_LINE.search(self._received)) is None:
                if len(self._received) > MOST_HEAD_BYTES:
                    raise httpx2.RemoteProtocolError("sent endless headers")
                await self._more(read_seconds)
                if self._ended and _BLANK_LINE.search(self._received) is None:
                    raise httpx2.RemoteProtocolError("sent no answer")
            lines = bytes(self._received[: blank.start()])
            del self._received[: blank.end()]
            try:
                head = read_head(lines)
            except NotHttp as error:
                raise httpx2.RemoteProtocolError(str(error)) from None
            if not head.interim:
                break
        self._body = Body(head)
        self._lasting = head.lasting
        return head

    async def read(self, read_seconds: float | None) -> bytes:
        """The next part of the body; empty at its end. Raises ReadTimeout and TransportErrors."""
        body = self._body
        if body is None:
            raise httpx2.StreamClosed
        while not body.complete:
            try:
                if part := body.feed(self._received):
                    return part
            except NotHttp as error:
                raise httpx2.RemoteProtocolError(str(error)) from None
            if body.complete:
                break
            if self._ended:
                if body.end():
                    break
                raise httpx2.RemoteProtocolError("broke off")
            await self._more(read_seconds)
        return b""

    def rest(self) -> None:
        """Nothing is asked until the next request."""
        self._asked = False
        self._body = None
        self.idle_since = self._loop.time()
        self._resume()

    def abort(self) -> None:
        """Closes it at once: the server is to notice, and to stop."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Keeps what came for whoever asked."""
        if not self._asked:
            # Nobody asked: whatever it is, it is no answer.
            self._transport.abort()
            return
        self._received.extend(data)
        if len(self._received) > _MOST_WAITING_BYTES and not self._paused:
            self._transport.pause_reading()
            self._paused = True
        self._wake()

    def eof_received(self) -> bool:
        """Nothing more comes."""
        self._ended = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._ended = True
        self._wake()

    async def _more(self, seconds: float | None) -> None:
        """Returns when something has come, or the connection has ended."""
        if self._ended:
            return
        self._resume()
        waiter = self._waiter = self._loop.create_future()
        timer = None if seconds is None else self._loop.call_later(seconds, self._give_up)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _resume(self) -> None:
        if self._paused and not self.closed:
            self._paused = False
            self._transport.resume_reading()

    def _give_up(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(httpx2.ReadTimeout("said nothing"))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
