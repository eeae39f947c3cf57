"""Clients that do not keep to HTTP/2, or use it to cost much."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from meshtest.eventually import eventually
from meshwire import frames, kinds, raw_client
from meshwire.frames import END_HEADERS, END_STREAM, frame, settings, window_update
from meshwire.raw_client import begin, block, call, connected, request, serving
from meshwire.stream import Stream

_HEADERS = frames.HEADERS
_CONTINUATION = frames.CONTINUATION
_MOST_WINDOW = frames.MOST_WINDOW_BYTES
# A header that goes into the table, and then is said again and again by its number there.
_BOMB = b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000 + b"\xbe" * 10_000
_CALM = frames.ENHANCE_YOUR_CALM
_WELL = {
    ":status": "200",
    "content-type": "application/grpc",
    "grpc-accept-encoding": "identity, deflate, gzip",
    "grpc-status": "0",
}


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frames.HEAD.pack(0, 16_385, frames.DATA, 0, 1), frames.FRAME_SIZE_ERROR),
        (frame(frames.DATA, 0, 1, b"a"), frames.PROTOCOL_ERROR),
        (frame(frames.DATA, frames.PADDED, 1, b"\x01"), frames.PROTOCOL_ERROR),
        (begin(0, "unary_unary"), frames.PROTOCOL_ERROR),
        (begin(2, "unary_unary"), frames.PROTOCOL_ERROR),
        (frame(frames.RST_STREAM, 0, 1, bytes(4)), frames.PROTOCOL_ERROR),
        (frame(frames.RST_STREAM, 0, 1, bytes(3)), frames.FRAME_SIZE_ERROR),
        (window_update(1, 1), frames.PROTOCOL_ERROR),
        (window_update(0, 0), frames.PROTOCOL_ERROR),
        (window_update(0, _MOST_WINDOW), frames.FLOW_CONTROL_ERROR),
        (frame(frames.PRIORITY, 0, 0, bytes(5)), frames.PROTOCOL_ERROR),
        (frame(frames.PRIORITY, 0, 1, b"\0\0\0\1\0"), frames.PROTOCOL_ERROR),
        (frame(frames.PUSH_PROMISE, END_HEADERS, 1, bytes(4)), frames.PROTOCOL_ERROR),
        (frame(frames.GOAWAY, 0, 0, bytes(7)), frames.FRAME_SIZE_ERROR),
        (frame(frames.GOAWAY, 0, 1, bytes(8)), frames.PROTOCOL_ERROR),
        (frame(frames.PING, 0, 0, bytes(7)), frames.FRAME_SIZE_ERROR),
        (frame(frames.PING, 0, 1, bytes(8)), frames.PROTOCOL_ERROR),
        (frame(frames.PING, 0, 0, bytes(8)) * 4, _CALM),
        (frame(frames.SETTINGS, 0, 1), frames.PROTOCOL_ERROR),
        (frame(frames.SETTINGS, frames.ACK, 0, bytes(6)), frames.FRAME_SIZE_ERROR),
        (settings({frames.MAX_FRAME_SIZE: 1}), frames.PROTOCOL_ERROR),
        (settings({frames.INITIAL_WINDOW_SIZE: 1 << 31}), frames.FLOW_CONTROL_ERROR),
        (settings({frames.INITIAL_WINDOW_SIZE: 1}) * 1000, _CALM),
        (frame(_CONTINUATION, END_HEADERS, 1), frames.PROTOCOL_ERROR),
        (frame(_HEADERS, 0, 1) + frame(frames.PING, 0, 0, bytes(8)), frames.PROTOCOL_ERROR),
        (frame(_HEADERS, 0, 1) + frame(_CONTINUATION, END_HEADERS, 3), frames.PROTOCOL_ERROR),
        (frame(_HEADERS, 0, 1) + frame(_CONTINUATION, 0, 1, bytes(9_000)) * 15, _CALM),
        (frame(_HEADERS, 0, 1) + frame(_CONTINUATION, 0, 1), _CALM),
        (frame(_HEADERS, END_HEADERS, 1, _BOMB), _CALM),
        (frame(_HEADERS, END_HEADERS, 1, b"\xff" * 5), frames.COMPRESSION_ERROR),
        (frame(_HEADERS, END_HEADERS, 1, b"\x40\x05a"), frames.COMPRESSION_ERROR),
        (frame(_HEADERS, END_HEADERS | frames.WITH_PRIORITY, 1), frames.FRAME_SIZE_ERROR),
    ],
)
async def test_who_breaks_the_protocol_is_cut_off_alone(sent: bytes, code: int) -> None:
    """It is told why, and others are served as before."""
    async with (
        serving({"unary_unary": kinds.say}) as (server, port),
        connected(port) as client,
        connected(port) as other,
    ):
        client.send(sent)
        *_, last = await client.ends()
        assert (last.kind, last.number) == (frames.GOAWAY, code)
        other.send(call(1, "unary_unary", b"a"))
        assert await other.answer(1) == (_WELL, b"\0\0\0\0\1a")
        await eventually(lambda: len(server.connections) == 1)


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01", b"PRX"])
async def test_what_is_no_http_2_is_cut_off(sent: bytes) -> None:
    """At its first byte that is another one."""
    async with serving({}) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        client = raw_client.RawClient(reader, writer)
        *_, last = await client.ends()
        assert (last.kind, last.number) == (frames.GOAWAY, frames.PROTOCOL_ERROR)
        await eventually(lambda: not server.connections)
        writer.close()


_POST, _SCHEME, _PATH, *_REST = request("stream_stream")


@pytest.mark.parametrize(
    "said",
    [
        (),
        (_POST, _SCHEME, *_REST),
        (_POST, _PATH, *_REST),
        (_SCHEME, _PATH, *_REST),
        (_POST, _SCHEME, (":path", ""), *_REST),
        (_POST, _POST, _SCHEME, _PATH, *_REST),
        (_POST, _SCHEME, _PATH, (":status", "200"), *_REST),
        (_POST, _SCHEME, _PATH, (":unknown", "a"), *_REST),
        (_POST, _SCHEME, *_REST, _PATH),
        (_POST, _SCHEME, _PATH, *_REST, ("Upper", "a")),
        (_POST, _SCHEME, _PATH, *_REST, ("a name", "a")),
        (_POST, _SCHEME, _PATH, *_REST, ("n\u00e4me", "a")),
        (_POST, _SCHEME, _PATH, *_REST, ("a", "two\r\nlines")),
        (_POST, _SCHEME, _PATH, *_REST, ("connection", "close")),
        (_POST, _SCHEME, _PATH, ("te", "gzip")),
    ],
)
async def test_headers_that_are_none_cost_their_call_alone(said: tuple[Any, ...]) -> None:
    """The connection, on which a proxy sends others' calls, goes on."""
    async with serving({"stream_stream": kinds.talk}) as (_, port), connected(port) as client:
        client.send(frame(_HEADERS, END_HEADERS, 1, block(*said)))
        client.send(frame(frames.DATA, END_STREAM, 1))
        reset, _ = await client.until(frames.RST_STREAM, 1)
        assert reset.number == frames.PROTOCOL_ERROR
        client.send(call(3, "stream_stream", b"a"))
        assert await client.answer(3) == (_WELL, b"\0\0\0\0\1a")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (window_update(1, 0), frames.PROTOCOL_ERROR),
        (window_update(1, _MOST_WINDOW), frames.FLOW_CONTROL_ERROR),
        (frame(frames.PRIORITY, 0, 1, bytes(4)), frames.FRAME_SIZE_ERROR),
        (frame(frames.DATA, 0, 1, b"\2\0\0\0\0"), frames.PROTOCOL_ERROR),
        (frame(frames.DATA, END_STREAM, 1, b"\0\0\0\0\1"), frames.PROTOCOL_ERROR),
        (frame(_HEADERS, END_HEADERS, 1, block(("a", "b"))), frames.PROTOCOL_ERROR),
        (
            frame(_HEADERS, END_HEADERS | END_STREAM, 1, block((":path", "/"))),
            frames.PROTOCOL_ERROR,
        ),
        (frame(frames.DATA, END_STREAM, 1) + frame(frames.DATA, 0, 1), frames.STREAM_CLOSED),
        (
            frame(frames.DATA, END_STREAM, 1) + frame(_HEADERS, END_HEADERS, 1, block()),
            frames.STREAM_CLOSED,
        ),
    ],
)
async def test_a_call_that_breaks_the_protocol_ends_alone(sent: bytes, code: int) -> None:
    """Its handler is cancelled, and the next call is served."""
    cancelled = asyncio.Event()

    async def wait(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            await asyncio.Event().wait()
            yield b""
        finally:
            cancelled.set()

    behaviours = {"stream_stream": wait, "unary_unary": kinds.say}
    async with serving(behaviours) as (server, port), connected(port) as client:
        client.send(begin(1, "stream_stream"))
        await client.ping()
        client.send(sent)
        reset, _ = await client.until(frames.RST_STREAM, 1)
        assert reset.number == code
        await asyncio.wait_for(cancelled.wait(), 60)
        client.send(call(3, "unary_unary", b"a"))
        assert await client.answer(3) == (_WELL, b"\0\0\0\0\1a")
        assert (server.calls_succeeded, server.calls_failed) == (1, 1)


async def test_trailers_end_what_a_client_sends() -> None:
    """They say nothing that anybody asks for."""
    async with serving({"stream_stream": kinds.talk}) as (_, port), connected(port) as client:
        client.send(begin(1, "stream_stream"))
        client.send(frame(_HEADERS, END_HEADERS | END_STREAM, 1, block(("a", "b"))))
        assert await client.answer(1) == (_WELL, b"")


async def test_calls_that_are_given_up_at_once_cost_nothing() -> None:
    """However many: nothing is left of them, and others are served meanwhile."""

    def reset(number: int) -> bytes:
        return begin(number, "stream_stream") + frames.rst_stream(number, frames.CANCEL)

    behaviours = {"stream_stream": kinds.talk, "unary_unary": kinds.say}
    async with (
        serving(behaviours, most_streams=100) as (server, port),
        connected(port) as client,
        connected(port) as other,
    ):
        # What is made once is there before it is measured.
        client.send(*(reset(number) for number in range(1, 1001, 2)))
        await client.ping()
        tracemalloc.start()
        try:
            client.send(*(reset(number) for number in range(1001, 21_001, 2)))
            for number in range(1, 21, 2):
                other.send(call(number, "unary_unary", b"a"))
                assert await other.answer(number) == (_WELL, b"\0\0\0\0\1a")
            before = await client.ping()
            await eventually(lambda: server.calls_failed == server.calls_started - 10)
            kept_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # The test's own frames are among it.
        assert kept_bytes - len(before) * 500 < 1 << 20
        assert {each.number for each in before} <= {frames.REFUSED_STREAM}
        assert not any(each.streams for each in server.connections.values())


async def test_a_handler_counts_until_it_has_ended() -> None:
    """A client that gives up calls does not get more of them at a time."""
    running, go_on = 0, asyncio.Event()

    async def linger(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        nonlocal running
        running += 1
        try:
            async for each in requests:
                yield each
        finally:
            await go_on.wait()
            running -= 1

    async with (
        serving({"stream_stream": linger}, most_streams=2) as (_, port),
        connected(port) as client,
    ):
        client.send(begin(1, "stream_stream"), begin(3, "stream_stream"))
        await eventually(lambda: running == 2)
        client.send(frames.rst_stream(1, frames.CANCEL), frames.rst_stream(3, frames.CANCEL))
        client.send(begin(5, "stream_stream"))
        refused, _ = await client.until(frames.RST_STREAM, 5)
        assert (refused.number, running) == (frames.REFUSED_STREAM, 2)
        go_on.set()
        await eventually(lambda: not running)
        client.send(call(7, "stream_stream", b"a"))
        assert await client.answer(7) == (_WELL, b"\0\0\0\0\1a")


async def test_more_calls_than_may_be_are_refused() -> None:
    """Not processed, as their client is told, so that it may ask elsewhere."""
    go_on = asyncio.Event()

    async def wait(request: bytes, context: Any) -> bytes:
        await go_on.wait()
        return request

    async with (
        serving({"unary_unary": wait}, most_streams=2) as (_, port),
        connected(port) as client,
    ):
        first, _ = await client.until(frames.SETTINGS)
        said = frames.read_settings(first.content)
        assert said[frames.MAX_CONCURRENT_STREAMS] == 2
        client.send(*(call(number, "unary_unary", b"a") for number in (1, 3, 5)))
        refused, _ = await client.until(frames.RST_STREAM, 5)
        assert refused.number == frames.REFUSED_STREAM
        go_on.set()
        assert await client.answer(1) == (_WELL, b"\0\0\0\0\1a")


async def test_who_does_not_read_answers_is_not_read_from() -> None:
    """What waits for it is bounded, and all of it comes once it reads."""
    count, size = 3000, 16_000
    async with (
        serving({"unary_unary": kinds.say}) as (server, port),
        connected(port, {frames.INITIAL_WINDOW_SIZE: _MOST_WINDOW}) as client,
    ):
        client.send(window_update(0, _MOST_WINDOW - frames.FIRST_WINDOW_BYTES))
        (connection,) = await eventually(lambda: tuple(server.connections.values()))
        calls = [call(2 * each + 1, "unary_unary", bytes(size)) for each in range(count)]
        client.send(*calls)
        await eventually(lambda: connection.is_paused)
        assert server.calls_started < count
        for each in range(count):
            _, content = await client.answer(2 * each + 1)
            assert len(content) == size + 5
        assert (server.calls_started, server.calls_succeeded) == (count, count)


async def test_who_does_not_read_the_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Soon, and does not keep the rest for as long as it likes."""
    monkeypatch.setattr("meshwire.connection._CLOSE_SECONDS", 0.01)

    async with (
        serving({"unary_unary": kinds.say}) as (server, port),
        connected(port, {frames.INITIAL_WINDOW_SIZE: _MOST_WINDOW}) as client,
    ):
        client.send(window_update(0, _MOST_WINDOW - frames.FIRST_WINDOW_BYTES))
        (connection,) = await eventually(lambda: tuple(server.connections.values()))
        client.send(*(call(2 * each + 1, "unary_unary", bytes(16_000)) for each in range(3000)))
        await eventually(lambda: connection.is_paused)
        lost = asyncio.Event()

        def connection_lost(exc: Exception | None) -> None:
            lost.set()

        monkeypatch.setattr(connection, "connection_lost", connection_lost)
        await server.stop(0)
        await asyncio.wait_for(lost.wait(), 60)


async def test_a_window_of_a_byte_wakes_no_more_than_it_is_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that a thousand of them are not a million turns."""
    answers, pumped, pump = 500, 0, Stream.pump

    def counted(stream: Stream) -> None:
        nonlocal pumped
        pumped += 1
        pump(stream)

    async with (
        serving({"unary_unary": kinds.say}) as (server, port),
        connected(port) as client,
    ):
        client.send(*(call(2 * each + 1, "unary_unary", bytes(1000)) for each in range(answers)))
        await client.ping()
        (connection,) = server.connections.values()
        assert connection.window == 0
        monkeypatch.setattr(Stream, "pump", counted)
        client.send(window_update(0, 1) * 1000)
        await client.ping()
        assert 1000 <= pumped <= 2000
