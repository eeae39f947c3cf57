"""How much is on its way, and waits: windows, sizes, packed messages."""

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from meshtest.eventually import eventually
from meshwire import frames, kinds
from meshwire.frames import END_STREAM, frame, window_update
from meshwire.raw_client import LIMIT, Frame, begin, call, connected, serving
from meshwire.stream import message

_OK = "0"


def _data(stream: int, content: bytes, size: int = frames.FIRST_FRAME_BYTES) -> bytes:
    """Bytes of messages in frames of a size."""
    pieces = (content[at : at + size] for at in range(0, len(content), size))
    return b"".join(frame(frames.DATA, 0, stream, each) for each in pieces)


def _sizes(came: list[Frame]) -> list[int]:
    return [len(each.content) for each in came if each.kind == frames.DATA]


async def test_an_answer_waits_for_its_window() -> None:
    """And goes on by as much as it is widened by, the status behind it."""
    async with (
        serving({"unary_unary": kinds.say}) as (_, port),
        connected(port, {frames.INITIAL_WINDOW_SIZE: 0}) as client,
    ):
        client.send(call(1, "unary_unary", b"12345"))
        await client.until(frames.HEADERS, 1)
        assert _sizes(await client.ping()) == []
        for size in (1, 6):
            client.send(window_update(1, size))
            assert _sizes(await client.ping()) == [size]
        client.send(window_update(1, 10))
        said, content = await client.answer(1)
        assert (content, said["grpc-status"]) == (b"345", _OK)


async def test_windows_that_were_shortened_are_made_up_for() -> None:
    """By settings, for the calls that there are."""
    async with serving({"unary_unary": kinds.say}) as (_, port), connected(port) as client:
        client.send(begin(1, "unary_unary"))
        client.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}), window_update(1, 5))
        client.send(frame(frames.DATA, END_STREAM, 1, message(b"12345")))
        await client.until(frames.HEADERS, 1)
        assert _sizes(await client.ping()) == [5]
        client.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 3}))
        assert _sizes(await client.ping()) == [3]
        client.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 1}), window_update(1, 3))
        assert _sizes(await client.ping()) == [1]
        client.send(window_update(1, 1))
        said, content = await client.answer(1)
        assert (content, said["grpc-status"]) == (b"5", _OK)


async def test_a_handler_writes_no_more_than_its_client_takes() -> None:
    """It waits with the first answer that there is no room for."""
    written = 0

    async def write(request: bytes, context: Any) -> AsyncIterator[bytes]:
        nonlocal written
        while True:
            written += 1
            yield bytes(995)

    async with (
        serving({"unary_stream": write}) as (_, port),
        connected(port, {frames.INITIAL_WINDOW_SIZE: 10_000}) as client,
    ):
        client.send(call(1, "unary_stream", b""))
        await eventually(lambda: written == 11)
        assert sum(_sizes(await client.ping())) == 10_000
        assert written == 11
        client.send(window_update(1, 1000))
        await eventually(lambda: written == 12)


async def test_the_status_of_a_call_that_failed_does_not_wait() -> None:
    """Behind answers that nobody has room for."""

    async def write(request: bytes, context: Any) -> AsyncIterator[bytes]:
        while True:
            yield request

    async with (
        serving({"unary_stream": write}) as (server, port),
        connected(port, {frames.INITIAL_WINDOW_SIZE: 0}) as client,
    ):
        client.send(call(1, "unary_stream", b"a", ("grpc-timeout", "50m")))
        said, content = await client.answer(1)
        assert (said["grpc-status"], said["grpc-message"], content) == (
            "4",
            "Deadline Exceeded",
            b"",
        )
        assert not any(each.streams for each in server.connections.values())


async def test_an_answer_that_nobody_takes_ends_with_the_deadline() -> None:
    """The call has its status: what is kept for it is dropped."""
    async with (
        serving({"unary_unary": kinds.say}) as (server, port),
        connected(port, {frames.INITIAL_WINDOW_SIZE: 0}) as client,
    ):
        client.send(call(1, "unary_unary", b"a", ("grpc-timeout", "50m")))
        reset, _ = await client.until(frames.RST_STREAM, 1)
        assert reset.number == frames.CANCEL
        assert not any(each.streams for each in server.connections.values())


async def test_who_sends_beyond_the_window_is_stopped() -> None:
    """The call alone; and what was sent of it is room for others."""
    go_on = asyncio.Event()
    behaviours = {"stream_unary": _taking(go_on), "unary_unary": kinds.say}
    async with serving(behaviours) as (_, port), connected(port) as client:
        client.send(begin(1, "stream_unary"), _data(1, message(bytes(1019)) * 1024))
        assert not [each for each in await client.ping() if each.stream == 1]
        client.send(frame(frames.DATA, 0, 1, b"\0"))
        reset, _ = await client.until(frames.RST_STREAM, 1)
        assert reset.number == frames.FLOW_CONTROL_ERROR
        client.send(call(3, "unary_unary", b"a"))
        assert (await client.answer(3))[1] == message(b"a")


async def test_a_handler_that_does_not_read_stops_its_client() -> None:
    """After a window of them, a MiB, until it reads."""
    go_on = asyncio.Event()
    async with serving({"stream_unary": _taking(go_on)}) as (_, port), connected(port) as client:
        client.send(begin(1, "stream_unary"), _data(1, message(bytes(1019)) * 1024))
        assert not [each for each in await client.ping() if each.stream == 1]
        go_on.set()
        await client.until(frames.WINDOW_UPDATE, 1)
        client.send(frame(frames.DATA, END_STREAM, 1))
        _, content = await client.answer(1)
        assert content == message(str(1019 * 1024).encode())


def _taking(go_on: asyncio.Event) -> Callable[[AsyncIterator[bytes], Any], Awaitable[bytes]]:
    """A handler that waits before it reads, and then says how much there was."""

    async def take(requests: AsyncIterator[bytes], context: Any) -> bytes:
        await go_on.wait()
        return str(sum([len(each) async for each in requests])).encode()

    return take


@pytest.mark.parametrize("frame_bytes", [1, 7, frames.FIRST_FRAME_BYTES])
async def test_a_message_may_come_in_frames_of_any_size(frame_bytes: int) -> None:
    """Of one byte each, too."""
    async with serving({"stream_stream": kinds.talk}) as (_, port), connected(port) as client:
        said = message(b"a") + message(b"") + message(bytes(5000))
        client.send(begin(1, "stream_stream"), _data(1, said, frame_bytes))
        client.send(frame(frames.DATA, END_STREAM, 1))
        assert (await client.answer(1))[1] == said


async def test_a_message_has_a_largest_size() -> None:
    """Which it may have, and not a byte more; what comes after its head is not kept."""
    async with (
        serving({"unary_unary": kinds.say}, most_message_bytes=1000) as (server, port),
        connected(port) as client,
    ):
        client.send(call(1, "unary_unary", bytes(1000)))
        assert len((await client.answer(1))[1]) == 1005
        client.send(begin(3, "unary_unary"), _data(3, message(bytes(1001))))
        said, content = await client.answer(3)
        assert (said["grpc-status"], said["grpc-message"], content) == (
            "8",
            "Received message larger than max (1001 vs. 1000)",
            b"",
        )
        assert not any(each.streams for each in server.connections.values())


_BOMB = gzip.compress(bytes(LIMIT + 1))
_TOO_LARGE = f"Received message larger than max ({LIMIT + 1} vs. {LIMIT})"


def _packed(content: bytes) -> bytes:
    return b"\1" + message(content)[1:]


@pytest.mark.parametrize(
    ("packing", "sent", "status", "text"),
    [
        ("gzip", _packed(gzip.compress(b"a" * 9)), _OK, ""),
        ("deflate", _packed(zlib.compress(b"a" * 9)), _OK, ""),
        ("gzip", message(b"a" * 9), _OK, ""),
        ("identity", message(b"a" * 9), _OK, ""),
        (
            "gzip",
            _packed(_BOMB),
            "8",
            f"Received message larger than max ({LIMIT + 1} vs. {LIMIT})",
        ),
        ("gzip", _packed(b"garbage"), "13", "A packed message that cannot be unpacked."),
        (
            "gzip",
            _packed(gzip.compress(b"a" * 9)[:-1]),
            "13",
            "A packed message that is not complete.",
        ),
        (
            "gzip",
            _packed(gzip.compress(b"a" * 9) + b"b"),
            "13",
            "A packed message that is not complete.",
        ),
        (
            "identity",
            _packed(gzip.compress(b"a" * 9)),
            "13",
            "A packed message in a call that names no packing.",
        ),
        ("snappy", _packed(b"a"), "12", "Messages packed by snappy are not read."),
    ],
)
@pytest.mark.parametrize("kind", ["unary_unary", "stream_stream"])
async def test_packed_messages_are_read_where_they_can_be(
    kind: str, packing: str, sent: bytes, status: str, text: str
) -> None:
    """As gRPC names packings; who is refused is told which there are."""
    behaviours = {"unary_unary": kinds.say, "stream_stream": kinds.talk}
    async with serving(behaviours) as (_, port), connected(port) as client:
        client.send(begin(1, kind, ("grpc-encoding", packing)), _data(1, sent))
        client.send(frame(frames.DATA, END_STREAM, 1))
        said, content = await client.answer(1)
        assert (said["grpc-status"], said.get("grpc-message", "")) == (status, text)
        assert content == (message(b"a" * 9) if status == _OK else b"")
        assert said["grpc-accept-encoding"] == "identity, deflate, gzip"


async def test_a_packed_message_is_unpacked_when_it_is_taken() -> None:
    """A window of them would be a thousand times as much."""
    taken = asyncio.Queue[int]()
    go_on = asyncio.Event()

    async def take(requests: AsyncIterator[bytes], context: Any) -> bytes:
        await go_on.wait()
        async for each in requests:
            taken.put_nowait(len(each))
        return b""

    bomb = gzip.compress(bytes(LIMIT))
    async with serving({"stream_unary": take}) as (_, port), connected(port) as client:
        client.send(begin(1, "stream_unary", ("grpc-encoding", "gzip")))
        tracemalloc.start()
        try:
            client.send(_data(1, _packed(bomb) * 100))
            await client.ping()
            kept_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert kept_bytes < LIMIT
        go_on.set()
        client.send(frame(frames.DATA, END_STREAM, 1))
        assert (await client.answer(1))[0]["grpc-status"] == _OK
        assert [taken.get_nowait() for _ in range(taken.qsize())] == [LIMIT] * 100
