"""What a server makes of what clients send, frame by frame."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any, Final

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwire import frames, headers
from meshwire.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    frame,
)
from meshwire.server import Limits, Server, ServerConnection
from meshwire.stream import message

_Frame = tuple[int, int, int, bytes]

_SAY: Final = headers.request_block("here", "/test.v1.TestService/Say", tls=False)
_TALK: Final = headers.request_block("here", "/test.v1.TestService/Talk", tls=False)
_BEGINNING: Final = frames.PREFACE + frames.settings({})


def _call(stream: int, content: bytes = b"hello", block: bytes = _SAY) -> bytes:
    """A call of one message."""
    begins = frame(HEADERS, END_HEADERS, stream, block)
    return begins + frame(DATA, END_STREAM, stream, message(content))


def _open(stream: int) -> bytes:
    """A call whose messages are still to come."""
    return frame(HEADERS, END_HEADERS, stream, _TALK)


class _Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.written += data

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


class _Client:
    """Sends bytes to a server, and reads what frames it answers."""

    def __init__(self) -> None:
        async def say(request: bytes, context: Any) -> bytes:
            return request

        async def talk(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async for each in requests:
                yield each

        server = Server(Limits(most_message_bytes=1 << 20))
        methods: dict[str, Any] = {
            "Say": grpc.unary_unary_rpc_method_handler(say),
            "Talk": grpc.stream_stream_rpc_method_handler(talk),
        }
        server.add("test.v1.TestService", methods)
        self.transport = _Transport()
        self.connection = ServerConnection(server)
        self.connection.connection_made(self.transport)

    @classmethod
    async def connect(cls) -> "_Client":
        """One that has heard what a server says first."""
        client = cls()
        await client.send()
        return client

    async def send(self, *parts: bytes) -> list[_Frame]:
        """What comes back for it."""
        self.transport.written = b""
        for part in parts:
            self.connection.data_received(part)
        for _ in range(20):
            await asyncio.sleep(0)
        return _frames(self.transport.written)

    def leave(self) -> None:
        """Nothing is left behind."""
        self.connection.connection_lost(None)


def _frames(data: bytes) -> list[_Frame]:
    found: list[_Frame] = []
    while data:
        high, low, kind, flags, stream = frames.HEAD.unpack_from(data)
        end = frames.HEAD_BYTES + (high << 16 | low)
        found.append((kind, flags, stream, data[frames.HEAD_BYTES : end]))
        data = data[end:]
    return found


def _said(found: list[_Frame], stream: int) -> bytes:
    """The data of a stream."""
    return b"".join(content for kind, _, of, content in found if (kind, of) == (DATA, stream))


async def _is_served(client: _Client, stream: int) -> bool:
    found = await client.send(_call(stream))
    return _said(found, stream) == message(b"hello")


_CONVERSATION: Final = b"".join(
    (
        _BEGINNING,
        frame(SETTINGS, ACK, 0),
        _call(1),
        frame(0x42, 0xFF, 7, b"of a kind that nobody knows"),
        frame(HEADERS, WITH_PRIORITY, 3, bytes(5) + _TALK[:7]),
        frame(CONTINUATION, 0, 3, _TALK[7:9]),
        frame(CONTINUATION, END_HEADERS, 3, _TALK[9:]),
        frame(PRIORITY, 0, 5, bytes(5)),
        frame(DATA, PADDED, 3, b"\3" + message(b"first")[:4] + bytes(3)),
        frames.window_update(3, 100),
        frame(DATA, 0, 3, message(b"first")[4:] + message(b"")),
        frame(PING, 0, 0, b"12345678"),
        _open(5),
        frames.rst_stream(5, frames.CANCEL),
        frame(DATA, END_STREAM, 5, b"too late"),
        frames.window_update(5, 100),
        frame(DATA, END_STREAM, 3, message(b"last")),
        frames.window_update(0, 100),
    )
)


def _converse(parts: list[bytes]) -> bytes:
    """All that a server says to it."""

    async def run() -> bytes:
        client = await _Client.connect()
        await client.send(*parts)
        client.leave()
        return client.transport.written

    return asyncio.run(run())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, len(_CONVERSATION))))
def test_what_a_client_sends_may_be_cut_anywhere(cuts: list[int]) -> None:
    """It is answered as if it had come at once."""
    ends = [0, *sorted(cuts), len(_CONVERSATION)]
    parts = [_CONVERSATION[at:end] for at, end in pairwise(ends)]
    whole = _converse([_CONVERSATION])
    assert _said(_frames(whole), 1) == message(b"hello")
    assert _said(_frames(whole), 3) == message(b"first") + message(b"") + message(b"last")
    assert not [each for each in _frames(whole) if each[0] in (GOAWAY, RST_STREAM)]
    assert _converse(parts) == whole


async def test_settings_and_pings_are_answered() -> None:
    """The settings before anything that follows them."""
    client = await _Client.connect()
    found = await client.send(_BEGINNING + frame(PING, 0, 0, b"12345678"))
    assert found == [(SETTINGS, ACK, 0, b""), (PING, ACK, 0, b"12345678")]
    client.leave()


_FAULTS: Final[dict[str, tuple[int, bytes]]] = {
    "a frame that is too large": (frames.FRAME_SIZE_ERROR, frame(0x42, 0, 0, bytes(16_385))),
    "a stream of the server": (frames.PROTOCOL_ERROR, frame(HEADERS, END_HEADERS, 2, _SAY)),
    "headers of no stream": (frames.PROTOCOL_ERROR, frame(HEADERS, END_HEADERS, 0, _SAY)),
    "data of no stream": (frames.PROTOCOL_ERROR, frame(DATA, 0, 0, b"")),
    "data of an idle one": (frames.PROTOCOL_ERROR, frame(DATA, 0, 9, b"")),
    "a reset of no stream": (frames.PROTOCOL_ERROR, frames.rst_stream(0, 0)),
    "a reset of an idle one": (frames.PROTOCOL_ERROR, frames.rst_stream(9, 0)),
    "a reset of half a size": (frames.FRAME_SIZE_ERROR, frame(RST_STREAM, 0, 1, b"12")),
    "a window of an idle one": (frames.PROTOCOL_ERROR, frames.window_update(9, 1)),
    "a window that does not grow": (frames.PROTOCOL_ERROR, frames.window_update(0, 0)),
    "a window beyond bounds": (
        frames.FLOW_CONTROL_ERROR,
        frames.window_update(0, frames.MOST_WINDOW_BYTES),
    ),
    "windows of streams beyond bounds": (
        frames.FLOW_CONTROL_ERROR,
        frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 31}),
    ),
    "a window of a stream that becomes too large": (
        frames.FLOW_CONTROL_ERROR,
        _open(1)
        + frames.window_update(1, 1 << 30)
        + frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 30}),
    ),
    "frames beyond bounds": (frames.PROTOCOL_ERROR, frames.settings({frames.MAX_FRAME_SIZE: 99})),
    "a push that is no truth": (frames.PROTOCOL_ERROR, frames.settings({frames.ENABLE_PUSH: 2})),
    "settings of a stream": (frames.PROTOCOL_ERROR, frame(SETTINGS, 0, 1)),
    "settings of half a size": (frames.FRAME_SIZE_ERROR, frame(SETTINGS, 0, 0, b"123")),
    "an answer with settings": (frames.FRAME_SIZE_ERROR, frame(SETTINGS, ACK, 0, bytes(6))),
    "a ping of a stream": (frames.PROTOCOL_ERROR, frame(PING, 0, 1, bytes(8))),
    "a ping of another size": (frames.FRAME_SIZE_ERROR, frame(PING, 0, 0, bytes(7))),
    "a goaway of a stream": (frames.PROTOCOL_ERROR, frame(GOAWAY, 0, 1, bytes(8))),
    "a priority of no stream": (frames.PROTOCOL_ERROR, frame(PRIORITY, 0, 0, bytes(5))),
    "a push": (frames.PROTOCOL_ERROR, frame(PUSH_PROMISE, 0, 1, bytes(4))),
    "more padding than frame": (frames.PROTOCOL_ERROR, _open(1) + frame(DATA, PADDED, 1, b"\1")),
    "headers without a beginning": (frames.PROTOCOL_ERROR, frame(CONTINUATION, 0, 1, b"")),
    "headers that something interrupts": (
        frames.PROTOCOL_ERROR,
        frame(HEADERS, 0, 1, _SAY) + frame(PING, 0, 0, bytes(8)),
    ),
    "headers that go on elsewhere": (
        frames.PROTOCOL_ERROR,
        frame(HEADERS, 0, 1, _SAY) + frame(CONTINUATION, END_HEADERS, 3, b""),
    ),
    "headers that never end": (
        frames.ENHANCE_YOUR_CALM,
        frame(HEADERS, 0, 1, _SAY) + frame(CONTINUATION, 0, 1, bytes(16_000)) * 5,
    ),
    "headers that are too large": (
        frames.ENHANCE_YOUR_CALM,
        frames.header_frames(1, _SAY + headers.literal("x", "v" * 65_500), 16_000, ended=False),
    ),
    "headers that cannot be read": (
        frames.COMPRESSION_ERROR,
        frame(HEADERS, END_HEADERS, 1, b"\xff\xff"),
    ),
}


@pytest.mark.parametrize("name", _FAULTS)
async def test_who_does_not_keep_to_the_protocol_is_told_so_and_left(name: str) -> None:
    """With the calls that it has begun, and nothing that it sends after that counts."""
    code, sent = _FAULTS[name]
    client = await _Client.connect()
    await client.send(_BEGINNING)
    found = await client.send(sent)
    (goaway,) = [content for kind, _, _, content in found if kind == GOAWAY]
    assert frames.read_goaway(goaway)[1] == code
    assert client.transport.is_closed
    assert await client.send(_call(11)) == []
    client.leave()


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n", b"\0" * 24, b"PRI * HTTP/2.0\r\n\r\nXX"])
async def test_who_speaks_something_else_is_left(sent: bytes) -> None:
    """At the first byte by which that is known."""
    client = await _Client.connect()
    ((kind, _, _, content),) = await client.send(sent)
    assert (kind, frames.read_goaway(content)[1]) == (GOAWAY, frames.PROTOCOL_ERROR)
    assert client.transport.is_closed
    client.leave()


_STREAM_FAULTS: Final[dict[str, tuple[int, bytes]]] = {
    "a window that does not grow": (frames.PROTOCOL_ERROR, _open(1) + frames.window_update(1, 0)),
    "a window beyond bounds": (
        frames.FLOW_CONTROL_ERROR,
        _open(1) + frames.window_update(1, frames.MOST_WINDOW_BYTES),
    ),
    "half a message": (frames.PROTOCOL_ERROR, _open(1) + frame(DATA, END_STREAM, 1, bytes(4))),
    "no message": (frames.PROTOCOL_ERROR, _open(1) + frame(DATA, 0, 1, b"\2\0\0\0\0")),
    "more than may be sent": (
        frames.FLOW_CONTROL_ERROR,
        # All at once: nobody takes one of them meanwhile.
        _open(1) + (frame(DATA, 0, 1, message(bytes(16_379)))) * 100,
    ),
    "headers that are none": (frames.PROTOCOL_ERROR, frame(HEADERS, END_HEADERS, 1, b"\x83")),
    "headers of a server": (
        frames.PROTOCOL_ERROR,
        frame(HEADERS, END_HEADERS, 1, headers.OK + _SAY),
    ),
    "trailers that end nothing": (
        frames.PROTOCOL_ERROR,
        _open(1) + frame(HEADERS, END_HEADERS, 1, headers.literal("x", "y")),
    ),
    "data of a call that has ended": (
        frames.STREAM_CLOSED,
        frame(HEADERS, END_HEADERS | END_STREAM, 1, _TALK) + frame(DATA, 0, 1, b""),
    ),
}


@pytest.mark.parametrize("name", _STREAM_FAULTS)
async def test_a_fault_of_one_call_is_no_fault_of_others(name: str) -> None:
    """It is broken off alone, whatever still comes of it."""
    code, sent = _STREAM_FAULTS[name]
    client = await _Client.connect()
    await client.send(_BEGINNING)
    found = await client.send(sent)
    resets = [(of, frames.read_number(content)) for kind, _, of, content in found if kind == 3]
    assert resets == [(1, code)]
    assert not client.connection.streams
    assert await client.send(frame(DATA, 0, 1, b"late"), frames.window_update(1, 1)) == []
    assert await _is_served(client, 3)
    client.leave()


async def test_trailers_of_a_caller_end_its_messages() -> None:
    """What they say is nothing to gRPC."""
    client = await _Client.connect()
    trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, headers.literal("x", "y"))
    found = await client.send(_BEGINNING + _open(1) + frame(DATA, 0, 1, message(b"1")) + trailers)
    assert _said(found, 1) == message(b"1")
    assert found[-1][:3] == (HEADERS, END_HEADERS | END_STREAM, 1)
    client.leave()


async def test_settings_widen_and_narrow_what_is_under_way() -> None:
    """A window may even become less than nothing; the status waits for the answer."""
    client = await _Client.connect()
    await client.send(frames.PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: 10}))
    answer = message(b"a" * 95)
    found = await client.send(_call(1, b"a" * 95))
    assert _said(found, 1) == answer[:10]
    for size, sent in ((4, b""), (10, b""), (30, answer[10:30])):
        found = await client.send(frames.settings({frames.INITIAL_WINDOW_SIZE: size}))
        assert found[0] == (SETTINGS, ACK, 0, b"")
        assert _said(found, 1) == sent
    found = await client.send(frames.window_update(1, 1000))
    assert _said(found, 1) == answer[30:]
    assert found[-1][:3] == (HEADERS, END_HEADERS | END_STREAM, 1)
    client.leave()


async def test_calls_share_the_window_of_their_connection() -> None:
    """None of them is left behind, and a larger frame is used where it may be."""
    client = await _Client.connect()
    size = 40_000
    await client.send(frames.PREFACE + frames.settings({frames.MAX_FRAME_SIZE: 1 << 20}))
    found = await client.send(_call_of(1, size), _call_of(3, size), _call_of(5, size))
    assert max(len(content) for *_, content in found) == size + 5
    assert sum(len(_said(found, each)) for each in (1, 3, 5)) == frames.FIRST_WINDOW_BYTES
    while client.connection.streams:
        more = await client.send(frames.window_update(0, 10_000))
        assert sum(len(_said(more, each)) for each in (1, 3, 5)) <= 10_000
        found += more
    assert [len(_said(found, each)) for each in (1, 3, 5)] == [size + 5] * 3
    client.leave()


def _call_of(stream: int, size: int) -> bytes:
    whole = message(bytes(size))
    parts = [whole[at : at + 16_384] for at in range(0, len(whole), 16_384)]
    begins = frame(HEADERS, END_HEADERS, stream, _SAY)
    data = b"".join(frame(DATA, 0, stream, each) for each in parts)
    return begins + data + frame(DATA, END_STREAM, stream)


async def test_what_nobody_wants_is_credited_all_the_same() -> None:
    """Data of a call that was broken off would else use up the window of the others."""
    client = await _Client.connect()
    await client.send(_BEGINNING + _open(1) + frames.rst_stream(1, frames.CANCEL))
    one, credited = frame(DATA, 0, 1, bytes(16_384)), 0
    for _ in range(2000):
        for kind, _, of, content in await client.send(one):
            assert (kind, of) == (WINDOW_UPDATE, 0)
            credited += frames.read_number(content)
    assert credited >= 2000 * 16_384 - (1 << 23)
    assert await _is_served(client, 3)
    client.leave()
