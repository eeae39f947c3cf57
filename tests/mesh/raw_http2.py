"""An HTTP/2 client that sends whatever it is told, as no decent client would."""

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import Final

from tier.ports import HOST

Headers = Sequence[tuple[str, str]]

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD_BYTES: Final = 9
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
_CANCEL: Final = 8


class Frame(IntEnum):
    """The types of frames."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class RawHttp2:
    """One connection. What the other side sends is counted, and never answered."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Made by `connected` alone."""
        self._reader: Final = reader
        self._writer: Final = writer
        # By type, of those from the other side.
        self.received: Final[Counter[int]] = Counter()
        # The error code of the other side's GOAWAY.
        self.told_to_go: int | None = None
        # Set when the other side has ended the connection.
        self.ended: Final = asyncio.Event()

    def send(
        self, kind: Frame, stream: int, payload: bytes = b"", *, flags: int = 0, times: int = 1
    ) -> None:
        """Puts a frame on its way, or so many of them in one piece; see `sent`."""
        head = struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream)
        self._writer.write((head + payload) * times)

    def request(self, stream: int, headers: Headers, *, flags: int = END_HEADERS) -> None:
        """The beginning of a request."""
        self.send(Frame.HEADERS, stream, encoded(headers), flags=flags)

    def reset(self, stream: int) -> None:
        """Takes a request back."""
        self.send(Frame.RST_STREAM, stream, struct.pack(">I", _CANCEL))

    async def sent(self) -> bool:
        """Returns when what was sent has left; False where the other side has ended."""
        try:
            await self._writer.drain()
        except OSError:
            return False
        # So that others of this process have their turn, the reader of this connection among them.
        await asyncio.sleep(0)
        return not (self.ended.is_set() or self._writer.is_closing())

    async def read(self) -> None:
        """Counts until the other side ends the connection."""
        try:
            while True:
                head = await self._reader.readexactly(_HEAD_BYTES)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                self.received[head[3]] += 1
                if head[3] == Frame.GOAWAY:
                    self.told_to_go = int.from_bytes(payload[4:8], "big")
        except (OSError, asyncio.IncompleteReadError):
            self.ended.set()


def encoded(headers: Headers) -> bytes:
    """By HPACK, every header in plain letters."""
    return b"".join(
        b"\0" + _counted(name.encode()) + _counted(value.encode()) for name, value in headers
    )


def _counted(text: bytes) -> bytes:
    size = len(text)
    if size < 0x7F:
        return bytes([size]) + text
    rest = size - 0x7F
    length = [0x7F]
    while rest >= 0x80:
        length.append(rest % 0x80 + 0x80)
        rest //= 0x80
    return bytes([*length, rest]) + text


@asynccontextmanager
async def connected(port: int, *, listening: bool = True) -> AsyncGenerator[RawHttp2]:
    """A connection past its preface. Who is not `listening` never takes what is sent to it."""
    reader, writer = await asyncio.open_connection(HOST, port)
    made = RawHttp2(reader, writer)
    writer.write(_PREFACE)
    made.send(Frame.SETTINGS, 0)
    reading = asyncio.create_task(made.read()) if listening else None
    try:
        yield made
    finally:
        writer.transport.abort()
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading])
