"""A server that does to its clients what a test tells it, frame by frame."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import hpack

from meshwire import frames, headers
from meshwire.stream import message

ANSWER: Final = ((":status", "200"), ("content-type", "application/grpc"))


class Frame(NamedTuple):
    """What a client has sent."""

    kind: int
    flags: int
    stream: int
    content: bytes


class Peer:
    """One connection, as its server has it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader: Final = reader
        self._writer: Final = writer
        self._decoder: Final = hpack.Decoder()
        # All that the client has sent, but for the preface.
        self.seen: Final[list[Frame]] = []

    async def preface(self) -> None:
        """Returns when the client has begun to speak HTTP/2."""
        assert await self._reader.readexactly(len(frames.PREFACE)) == frames.PREFACE

    async def greet(self, settings: dict[int, int] | None = None) -> None:
        """Begins to speak HTTP/2, too."""
        await self.preface()
        self.send(frames.settings(settings or {}))

    async def next(self, kind: int) -> Frame:
        """The next frame of that kind; those before it are passed over. EOFError at the end."""
        while True:
            head = await self._reader.readexactly(frames.HEAD_BYTES)
            high, low, found, flags, stream = frames.HEAD.unpack(head)
            content = await self._reader.readexactly(high << 16 | low)
            self.seen.append(Frame(found, flags, stream, content))
            if found == kind:
                return self.seen[-1]

    async def call(self) -> tuple[int, dict[str, str]]:
        """The number and the headers of the next call."""
        frame = await self.next(frames.HEADERS)
        return frame.stream, {
            str(name): str(value) for name, value in self._decoder.decode(frame.content)
        }

    def send(self, data: bytes) -> None:
        """Sends frames, or anything else."""
        self._writer.write(data)

    def say(self, stream: int, *said: tuple[str, str], ended: bool = False) -> None:
        """Sends headers or trailers."""
        block = headers.block(said)
        most = frames.FIRST_FRAME_BYTES
        self.send(frames.header_frames(stream, block, most, ended=ended))

    def answer(self, stream: int, *contents: bytes, status: str = "0") -> None:
        """Answers a call, all of it."""
        self.say(stream, *ANSWER)
        self.tell(stream, *contents)
        self.say(stream, ("grpc-status", status), ended=True)

    def tell(self, stream: int, *contents: bytes) -> None:
        """Sends answers, and no status yet."""
        for each in contents:
            self.send(frames.frame(frames.DATA, 0, stream, message(each)))

    async def ended(self) -> None:
        """Returns when the client has closed the connection."""
        try:
            while True:
                await self.next(-1)
        except (EOFError, OSError):
            return

    def close(self) -> None:
        """Ends the connection."""
        self._writer.close()


Script = Callable[[Peer], Coroutine[Any, Any, Any]]


class ScriptedServer:
    """Where it listens, and who has come."""

    def __init__(self) -> None:
        self.port = 0
        # When each connection came, by the loop's clock.
        self.came: Final[list[float]] = []

    @property
    def target(self) -> str:
        """Its address."""
        return f"127.0.0.1:{self.port}"


@asynccontextmanager
async def scripted(
    *scripts: Script, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[ScriptedServer]:
    """Runs a script for each connection, the last one for all that follow.

    A script that fails fails the test. Connections are closed when their script ends.
    """
    server, tasks = ScriptedServer(), set[asyncio.Task[Any]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = scripts[min(len(server.came), len(scripts) - 1)]
        server.came.append(asyncio.get_running_loop().time())
        task = asyncio.create_task(script(Peer(reader, writer)))
        tasks.add(task)
        task.add_done_callback(lambda _: writer.close())

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


async def serve(peer: Peer) -> None:
    """A script: answers each call, until the client leaves."""
    await peer.greet()
    while True:
        try:
            number, _ = await peer.call()
        except (EOFError, OSError):
            return
        peer.answer(number, b"served")
