"""The upstream that every system calls: answers like OpenAI's API, at once, for next to nothing.

Run as a process of its own, with its port as the only argument.
"""

import asyncio
import re
import sys
from typing import Final, cast

import uvloop

from bench.gateway import reference_call

_HOST: Final = "127.0.0.1"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAMED: Final = re.compile(rb'"stream": ?true')
_MOST_BYTES: Final = 1024 * 1024


def _whole(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def _part(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


_ANSWER: Final = _whole(reference_call.chat_answer())
_NOTHING: Final = _whole(b"{}")
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_PIECES: Final = [_part(each) for each in reference_call.chat_chunks()]


class Upstream(asyncio.Protocol):
    """One connection, which asks one thing after the other."""

    def __init__(self) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answers what is complete."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self._buffer, 0, end + 2)
            whole = end + 4 + (int(found[1]) if found else 0)
            if whole > _MOST_BYTES:
                self._transport.close()
                return
            if len(self._buffer) < whole:
                return
            request, self._buffer = self._buffer[:whole], self._buffer[whole:]
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        if not request.startswith(b"POST "):
            self._transport.write(_NOTHING)
        elif _STREAMED.search(request):
            self._transport.write(_HEAD + _PIECES[0])
            self._loop.call_later(reference_call.PIECE_SECONDS, self._go_on, 1)
        else:
            self._transport.write(_ANSWER)

    def _go_on(self, number: int) -> None:
        """The next piece of a stream, or its end."""
        if self._transport.is_closing():
            return
        self._transport.write(_PIECES[number])
        if number + 1 < len(_PIECES):
            self._loop.call_later(reference_call.PIECE_SECONDS, self._go_on, number + 1)
        else:
            self._transport.write(_part(b""))


async def serve(port: int) -> None:
    """Serves until it is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, _HOST, port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
