"""What a server makes of what clients send, frame by frame."""

import asyncio
from itertools import pairwise
from typing import Final

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
    WITH_PRIORITY,
    frame,
)
from meshwire.offline_client import BEGINNING, SAY, TALK, Client, begin, call, read, said
from meshwire.stream import message

_CONVERSATION: Final = b"".join(
    (
        BEGINNING,
        frame(SETTINGS, ACK, 0),
        call(1),
        frame(0x42, 0xFF, 7, b"of a kind that nobody knows"),
        frame(HEADERS, WITH_PRIORITY, 3, bytes(5) + TALK[:7]),
        frame(CONTINUATION, 0, 3, TALK[7:9]),
        frame(CONTINUATION, END_HEADERS, 3, TALK[9:]),
        frame(PRIORITY, 0, 5, bytes(5)),
        frame(DATA, PADDED, 3, b"\3" + message(b"first")[:4] + bytes(3)),
        frames.window_update(3, 100),
        frame(DATA, 0, 3, message(b"first")[4:] + message(b"")),
        frame(PING, 0, 0, b"12345678"),
        begin(5),
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
        client = await Client.connect()
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
    assert said(read(whole), 1) == message(b"hello")
    assert said(read(whole), 3) == message(b"first") + message(b"") + message(b"last")
    assert not [each for each in read(whole) if each[0] in (GOAWAY, RST_STREAM)]
    assert _converse(parts) == whole


async def test_settings_and_pings_are_answered() -> None:
    """The settings before anything that follows them."""
    client = await Client.connect()
    found = await client.send(BEGINNING + frame(PING, 0, 0, b"12345678"))
    assert found == [(SETTINGS, ACK, 0, b""), (PING, ACK, 0, b"12345678")]
    client.leave()


_FAULTS: Final[dict[str, tuple[int, bytes]]] = {
    "a frame that is too large": (frames.FRAME_SIZE_ERROR, frame(0x42, 0, 0, bytes(16_385))),
    "a stream of the server": (frames.PROTOCOL_ERROR, frame(HEADERS, END_HEADERS, 2, SAY)),
    "headers of no stream": (frames.PROTOCOL_ERROR, frame(HEADERS, END_HEADERS, 0, SAY)),
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
        begin(1)
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
    "more padding than frame": (frames.PROTOCOL_ERROR, begin(1) + frame(DATA, PADDED, 1, b"\1")),
    "headers without a beginning": (frames.PROTOCOL_ERROR, frame(CONTINUATION, 0, 1, b"")),
    "headers that something interrupts": (
        frames.PROTOCOL_ERROR,
        frame(HEADERS, 0, 1, SAY) + frame(PING, 0, 0, bytes(8)),
    ),
    "headers that go on elsewhere": (
        frames.PROTOCOL_ERROR,
        frame(HEADERS, 0, 1, SAY) + frame(CONTINUATION, END_HEADERS, 3, b""),
    ),
    "headers that never end": (
        frames.ENHANCE_YOUR_CALM,
        frame(HEADERS, 0, 1, SAY) + frame(CONTINUATION, 0, 1, bytes(16_000)) * 9,
    ),
    "headers that are too large": (
        frames.ENHANCE_YOUR_CALM,
        frames.header_frames(1, SAY + headers.literal("x", "v" * 131_000), 16_000, ended=False),
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
    client = await Client.connect()
    await client.send(BEGINNING)
    found = await client.send(sent)
    (goaway,) = [content for kind, _, _, content in found if kind == GOAWAY]
    assert frames.read_goaway(goaway)[1] == code
    assert client.transport.is_closed
    assert await client.send(call(11)) == []
    client.leave()


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n", b"\0" * 24, b"PRI * HTTP/2.0\r\n\r\nXX"])
async def test_who_speaks_something_else_is_left(sent: bytes) -> None:
    """At the first byte by which that is known."""
    client = await Client.connect()
    ((kind, _, _, content),) = await client.send(sent)
    assert (kind, frames.read_goaway(content)[1]) == (GOAWAY, frames.PROTOCOL_ERROR)
    assert client.transport.is_closed
    client.leave()


_STREAM_FAULTS: Final[dict[str, tuple[int, bytes]]] = {
    "a window that does not grow": (frames.PROTOCOL_ERROR, begin(1) + frames.window_update(1, 0)),
    "a window beyond bounds": (
        frames.FLOW_CONTROL_ERROR,
        begin(1) + frames.window_update(1, frames.MOST_WINDOW_BYTES),
    ),
    "half a message": (frames.PROTOCOL_ERROR, begin(1) + frame(DATA, END_STREAM, 1, bytes(4))),
    "no message": (frames.PROTOCOL_ERROR, begin(1) + frame(DATA, 0, 1, b"\2\0\0\0\0")),
    "more than may be sent": (
        frames.FLOW_CONTROL_ERROR,
        # All at once: nobody takes one of them meanwhile.
        begin(1) + (frame(DATA, 0, 1, message(bytes(16_379)))) * 100,
    ),
    "headers that are none": (frames.PROTOCOL_ERROR, frame(HEADERS, END_HEADERS, 1, b"\x83")),
    "headers of a server": (
        frames.PROTOCOL_ERROR,
        frame(HEADERS, END_HEADERS, 1, headers.OK + SAY),
    ),
    "trailers that end nothing": (
        frames.PROTOCOL_ERROR,
        begin(1) + frame(HEADERS, END_HEADERS, 1, headers.literal("x", "y")),
    ),
    "data of a call that has ended": (
        frames.STREAM_CLOSED,
        frame(HEADERS, END_HEADERS | END_STREAM, 1, TALK) + frame(DATA, 0, 1, b""),
    ),
}


@pytest.mark.parametrize("name", _STREAM_FAULTS)
async def test_a_fault_of_one_call_is_no_fault_of_others(name: str) -> None:
    """It is broken off alone, whatever still comes of it."""
    code, sent = _STREAM_FAULTS[name]
    client = await Client.connect()
    await client.send(BEGINNING)
    found = await client.send(sent)
    resets = [(of, frames.read_number(content)) for kind, _, of, content in found if kind == 3]
    assert resets == [(1, code)]
    assert not client.connection.streams
    assert await client.send(frame(DATA, 0, 1, b"late"), frames.window_update(1, 1)) == []
    assert await client.is_served(3)
    client.leave()


async def test_trailers_of_a_caller_end_its_messages() -> None:
    """What they say is nothing to gRPC."""
    client = await Client.connect()
    trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, headers.literal("x", "y"))
    found = await client.send(BEGINNING + begin(1) + frame(DATA, 0, 1, message(b"1")) + trailers)
    assert said(found, 1) == message(b"1")
    assert found[-1][:3] == (HEADERS, END_HEADERS | END_STREAM, 1)
    client.leave()
