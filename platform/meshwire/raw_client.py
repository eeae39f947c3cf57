"""A client of HTTP/2 that says what a test wants, whether a client may or not."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from meshwire import frames, kinds
from meshwire.frames import END_HEADERS, END_STREAM, HEADERS, frame
from meshwire.header_reader import HeaderReader
from meshwire.server import Limits, Server
from meshwire.stream import message

LIMIT = 4 << 20


@dataclass(frozen=True)
class Frame:
    """A frame that came."""

    kind: int
    flags: int
    stream: int
    content: bytes

    @property
    def number(self) -> int:
        """What a RST_STREAM, a WINDOW_UPDATE, or a GOAWAY after its last stream says."""
        at = 4 if self.kind == frames.GOAWAY else 0
        return int.from_bytes(self.content[at : at + 4])


class RawClient:
    """One connection. It takes as much as a server may say, and gives no more room than told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._reader = reader
        self._headers = HeaderReader(1 << 20)

    def send(self, *sent: bytes) -> None:
        """Sends bytes as they are."""
        self.writer.write(b"".join(sent))

    async def next(self) -> Frame | None:
        """The next frame; None at the end of the connection."""
        try:
            head = await self._reader.readexactly(frames.HEAD_BYTES)
            high, low, kind, flags, stream = frames.HEAD.unpack(head)
            return Frame(kind, flags, stream, await self._reader.readexactly(high << 16 | low))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def until(self, kind: int, stream: int = 0, flags: int = 0) -> tuple[Frame, list[Frame]]:
        """The first frame of a kind with all these flags, and what came before."""
        before: list[Frame] = []
        async with asyncio.timeout(60):
            while (each := await self.next()) is not None:
                if (each.kind, each.stream) == (kind, stream) and each.flags & flags == flags:
                    return each, before
                before.append(each)
        raise AssertionError(f"the connection ended after {before}")

    async def ends(self) -> list[Frame]:
        """What comes until the connection ends."""
        before: list[Frame] = []
        async with asyncio.timeout(60):
            while (each := await self.next()) is not None:
                before.append(each)
        return before

    async def ping(self, content: bytes = b"a test's") -> list[Frame]:
        """Returns once the server has taken what was sent before; what came meanwhile."""
        self.send(frame(frames.PING, 0, 0, content))
        while True:
            pong, before = await self.until(frames.PING, flags=frames.ACK)
            if pong.content == content:
                return before

    async def answer(self, stream: int) -> tuple[dict[str, str], bytes]:
        """The status and what comes with it, and the bytes of all messages, of a call."""
        said: dict[str, str] = {}
        content = b""
        async with asyncio.timeout(60):
            while (each := await self.next()) is not None:
                if each.kind == HEADERS:
                    read = dict(self._headers.read(each.content))
                    said |= read if each.stream == stream else {}
                elif each.stream == stream and each.kind == frames.DATA:
                    content += each.content
                elif each.stream == stream and each.kind == frames.RST_STREAM:
                    raise AssertionError(f"the call was reset with {each.number}")
                if each.stream == stream and each.flags & END_STREAM and each.kind <= HEADERS:
                    return said, content
        raise AssertionError("the connection ended before the call did")


def block(*said: tuple[str, str]) -> bytes:
    """Short headers, whatever they say."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in said)


def request(kind: str) -> list[tuple[str, str]]:
    """The headers of a call."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", f"/{kinds.SERVICE}/{kind}"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]


def begin(stream: int, kind: str, *more: tuple[str, str]) -> bytes:
    """The frame that begins a call."""
    return frame(HEADERS, END_HEADERS, stream, block(*request(kind), *more))


def call(stream: int, kind: str, content: bytes, *more: tuple[str, str]) -> bytes:
    """A call with its only request."""
    return begin(stream, kind, *more) + frame(frames.DATA, END_STREAM, stream, message(content))


def _string(text: str) -> bytes:
    packed = text.encode()
    return bytes((len(packed),)) + packed


@asynccontextmanager
async def serving(
    behaviours: dict[str, Callable[..., Any]], tls: Any = None, **limits: Any
) -> AsyncGenerator[tuple[Server, int]]:
    """A server that has these methods, and its port."""
    server = Server(Limits(**{"most_message_bytes": LIMIT, **limits}))
    handlers = {name: kinds.KINDS[name](behaviour) for name, behaviour in behaviours.items()}
    server.add(kinds.SERVICE, handlers)
    try:
        yield server, await server.listen("127.0.0.1:0", tls)
    finally:
        await server.stop(0)


@asynccontextmanager
async def connected(port: int, settings: dict[int, int] | None = None) -> AsyncGenerator[RawClient]:
    """A connection that has begun as HTTP/2 wants it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = RawClient(reader, writer)
    client.send(frames.PREFACE, frames.settings(settings or {}))
    try:
        yield client
    finally:
        writer.transport.abort()
