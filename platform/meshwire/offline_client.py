"""A client of a server, frame by frame and without a network."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from meshwire import frames, headers
from meshwire.frames import DATA, END_HEADERS, END_STREAM, HEADERS, frame
from meshwire.server import Limits, Server, ServerConnection
from meshwire.stream import message

Frame = tuple[int, int, int, bytes]

SAY: Final = headers.request_block("here", "/test.v1.TestService/Say", tls=False)
TALK: Final = headers.request_block("here", "/test.v1.TestService/Talk", tls=False)
FLOOD: Final = headers.request_block("here", "/test.v1.TestService/Flood", tls=False)
BEGINNING: Final = frames.PREFACE + frames.settings({})


def call(stream: int, content: bytes = b"hello", block: bytes = SAY) -> bytes:
    """A call of one message."""
    begins = frame(HEADERS, END_HEADERS, stream, block)
    return begins + frame(DATA, END_STREAM, stream, message(content))


def begin(stream: int) -> bytes:
    """A call whose messages are still to come."""
    return frame(HEADERS, END_HEADERS, stream, TALK)


class _Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False
        # From how much on nothing more is to be written.
        self.most_bytes = 1 << 30
        self.protocol: ServerConnection | None = None

    def write(self, data: Any) -> None:
        self.written += data
        if len(self.written) > self.most_bytes and self.protocol is not None:
            self.protocol.pause_writing()

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def abort(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Client:
    """Sends bytes to a server, and reads what frames it answers."""

    def __init__(self) -> None:
        async def say(request: bytes, context: Any) -> bytes:
            return request

        async def talk(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async for each in requests:
                yield each

        async def flood(request: bytes, context: Any) -> None:
            for _ in range(1000):
                await context.write(bytes(10_000))

        server = Server(Limits(most_message_bytes=1 << 20))
        methods: dict[str, Any] = {
            "Say": grpc.unary_unary_rpc_method_handler(say),
            "Flood": grpc.unary_stream_rpc_method_handler(flood),
            "Talk": grpc.stream_stream_rpc_method_handler(talk),
        }
        server.add("test.v1.TestService", methods)
        self.transport = _Transport()
        self.connection = self.transport.protocol = ServerConnection(server)
        self.connection.connection_made(self.transport)

    @classmethod
    async def connect(cls) -> "Client":
        """One that has heard what a server says first."""
        client = cls()
        await client.send()
        return client

    async def send(self, *parts: bytes) -> list[Frame]:
        """What comes back for it."""
        self.transport.written = b""
        for part in parts:
            self.connection.data_received(part)
        for _ in range(20):
            await asyncio.sleep(0)
        return read(self.transport.written)

    async def is_served(self, stream: int) -> bool:
        """Whether a call is answered."""
        return said(await self.send(call(stream)), stream) == message(b"hello")

    def leave(self) -> None:
        """Nothing is left behind."""
        self.connection.connection_lost(None)


def read(data: bytes) -> list[Frame]:
    """The frames in it: kind, flags, stream, content."""
    found: list[Frame] = []
    while data:
        high, low, kind, flags, stream = frames.HEAD.unpack_from(data)
        end = frames.HEAD_BYTES + (high << 16 | low)
        found.append((kind, flags, stream, data[frames.HEAD_BYTES : end]))
        data = data[end:]
    return found


def said(found: list[Frame], stream: int) -> bytes:
    """The data of a stream."""
    return b"".join(content for kind, _, of, content in found if (kind, of) == (DATA, stream))
