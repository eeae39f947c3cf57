"""Messages come out as they went in, and no more of them travels than may."""

import asyncio
from collections import deque
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshwire import frames
from meshwire.frames import DATA, RST_STREAM, WINDOW_UPDATE, StreamFault
from meshwire.stream import WINDOW_BYTES, Stream, end_of, message

_MOST_BYTES = 4 << 20
_PREFIX_BYTES = 5
_ENDING = frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, b"ending")


class _Wire:
    """What a connection does, and who watches that it may."""

    def __init__(self, window: int = 1 << 30, first_window: int = 1 << 30) -> None:
        self.window = window
        self.first_window = first_window
        self.most_frame_bytes = frames.FIRST_FRAME_BYTES
        self.lost = False
        self.is_paused = False
        # So much does the other end still take, of the stream and of all streams.
        self.taken_of_stream = first_window
        self.taken_of_all = window
        self.sent: list[tuple[int, bytes]] = []
        self.waiting: dict[int, Stream] = {}
        self.is_forgotten = False
        # Whether the next frame is one more than the other end reads at once.
        self.pauses = False

    def write(self, data: bytes) -> None:
        while data:
            high, low, kind, _, _ = frames.HEAD.unpack_from(data)
            size, data = high << 16 | low, data[frames.HEAD_BYTES :]
            self.sent.append((kind, data[:size]))
            data = data[size:]
            if kind == DATA:
                self.taken_of_stream -= size
                self.taken_of_all -= size
                assert size <= self.most_frame_bytes
                assert min(self.taken_of_stream, self.taken_of_all) >= 0
        self.is_paused = self.is_paused or self.pauses

    def wait_for_window(self, stream: Stream) -> None:
        self.waiting[stream.number] = stream

    def forget(self, stream: Stream) -> None:
        self.is_forgotten = True
        self.waiting.clear()

    def widen(self, size_bytes: int) -> None:
        self.window += size_bytes
        self.taken_of_all += size_bytes
        self._pump()

    def resume(self) -> None:
        self.is_paused = False
        self._pump()

    def _pump(self) -> None:
        waiting = tuple(self.waiting.values())
        self.waiting.clear()
        for stream in waiting:
            stream.pump()

    def of(self, kind: int) -> list[bytes]:
        return [content for found, content in self.sent if found == kind]


class _Reader(Stream):
    """Takes messages when it is told to."""

    def __init__(self, wire: _Wire, most_bytes: int = _MOST_BYTES) -> None:
        super().__init__(wire, 1, most_bytes)
        self.came: list[bytes] = []
        self.inbox: deque[bytes] = deque()
        self.refused: list[int] = []
        self.ended = False

    def message(self, packed: bool, content: bytes) -> None:
        self.came.append(content)
        self.inbox.append(content)

    def too_large(self, size_bytes: int) -> None:
        self.refused.append(size_bytes)

    def ended_by_peer(self) -> None:
        self.ended = True

    def take(self) -> None:
        self.took(len(self.inbox.popleft()))

    def send(self, content: bytes, *, ended: bool = False) -> None:
        self.data(content, len(content), ended=ended)


_MESSAGES = st.lists(st.binary(max_size=40), max_size=8)


def _joined(messages: Iterable[bytes]) -> bytes:
    return b"".join(message(each) for each in messages)


# What comes.


@given(_MESSAGES, st.data())
def test_messages_that_were_cut_anywhere_come_out_the_same(
    messages: list[bytes], data: st.DataObject
) -> None:
    """In order, and each as soon as it is complete."""
    reader, whole, at = _Reader(_Wire()), _joined(messages), 0
    ends = [len(_joined(messages[: count + 1])) for count in range(len(messages))]
    while at < len(whole):
        size = data.draw(st.integers(0, len(whole) - at))
        reader.send(whole[at : at + size])
        at += size
        assert reader.came == messages[: sum(end <= at for end in ends)]
    reader.send(b"", ended=True)
    assert reader.came == messages
    assert reader.ended


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_who_keeps_to_the_window_can_always_go_on(data: st.DataObject) -> None:
    """As long as somebody takes the messages; until then it is stopped."""
    wire = _Wire()
    reader = _Reader(wire)
    sizes = data.draw(
        st.lists(st.sampled_from([0, 1, 1000, 500_000, WINDOW_BYTES, _MOST_BYTES]), max_size=12)
    )
    rest, allowed, heard = memoryview(_joined(map(bytes, sizes))), WINDOW_BYTES, 0
    while rest:
        size = min(len(rest), allowed, data.draw(st.sampled_from([1, 9000, 16_384])) or 1)
        if size:
            # A draw for each frame would be too many of them.
            for _ in range(64):
                size = min(size, len(rest), allowed)
                reader.send(bytes(rest[:size]))
                rest, allowed = rest[size:], allowed - size
                updates = wire.of(WINDOW_UPDATE)
                allowed += sum(map(frames.read_number, updates[heard:]))
                heard = len(updates)
                assert allowed <= WINDOW_BYTES
                assert sum(map(len, reader.inbox)) < 2 * WINDOW_BYTES + _MOST_BYTES
        else:
            assert reader.inbox, "stopped, while there is nothing to be taken"
            reader.take()
            allowed += sum(map(frames.read_number, wire.of(WINDOW_UPDATE)[heard:]))
            heard = len(wire.of(WINDOW_UPDATE))
    reader.send(b"", ended=True)
    assert [len(each) for each in reader.came] == sizes


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_nobody_may_go_on_whose_messages_nobody_takes(size: int) -> None:
    """Be they ever so small."""
    wire = _Wire()
    reader = _Reader(wire)
    one = message(bytes(size))
    frame = one * (frames.FIRST_FRAME_BYTES // len(one))
    sent = 0
    while len(frame) <= WINDOW_BYTES + sum(map(frames.read_number, wire.of(WINDOW_UPDATE))) - sent:
        reader.send(frame)
        sent += len(frame)
        assert sent <= 2 * WINDOW_BYTES
    before = len(wire.of(WINDOW_UPDATE))
    while reader.inbox:
        reader.take()
    assert len(wire.of(WINDOW_UPDATE)) > before


def test_padding_counts_as_what_was_sent() -> None:
    """Credit for it is given back."""
    wire = _Wire()
    reader = _Reader(wire)
    for _ in range(WINDOW_BYTES // 256):
        reader.data(b"", 256, ended=False)
    assert sum(map(frames.read_number, wire.of(WINDOW_UPDATE))) == WINDOW_BYTES


def test_more_than_may_be_sent_is_refused() -> None:
    """By the first byte."""
    reader = _Reader(_Wire())
    reader.data(b"", WINDOW_BYTES // 2 - 1, ended=False)
    with pytest.raises(StreamFault) as caught:
        reader.data(b"", WINDOW_BYTES // 2 + 2, ended=False)
    assert caught.value.code == frames.FLOW_CONTROL_ERROR


@given(st.binary(max_size=20), st.data())
def test_half_a_message_at_the_end_is_refused(content: bytes, data: st.DataObject) -> None:
    """Wherever it is cut off."""
    whole = message(content)
    reader = _Reader(_Wire())
    part = whole[: data.draw(st.integers(1, len(whole) - 1))]
    with pytest.raises(StreamFault) as caught:
        reader.send(message(b"before") + part, ended=True)
    assert caught.value.code == frames.PROTOCOL_ERROR
    assert reader.came == [b"before"]
    assert not reader.ended


@given(_MESSAGES, st.integers(1, 8), st.integers(1, 1 << 31))
def test_a_message_that_is_too_large_is_refused_by_its_size(
    messages: list[bytes], step: int, beyond: int
) -> None:
    """Before it comes; what comes behind its prefix is not looked at."""
    wire = _Wire()
    reader = _Reader(wire, most_bytes=40)
    whole = _joined(messages) + b"\0" + (40 + beyond).to_bytes(4) + _joined([b"more"])
    for at in range(0, len(whole), step):
        reader.send(whole[at : at + step])
    for _ in range(100):
        reader.send(bytes(frames.FIRST_FRAME_BYTES))
    assert reader.came == messages
    assert reader.refused == [40 + beyond]
    assert sum(map(frames.read_number, wire.of(WINDOW_UPDATE))) >= WINDOW_BYTES // 2


@given(st.integers(2, 255))
def test_what_is_no_message_is_refused(first: int) -> None:
    """Its first byte says whether it is packed, and nothing else."""
    with pytest.raises(StreamFault) as caught:
        _Reader(_Wire()).send(bytes((first, 0, 0, 0, 0)))
    assert caught.value.code == frames.PROTOCOL_ERROR


def test_data_after_the_end_is_refused() -> None:
    """Even when there is nothing in it."""
    reader = _Reader(_Wire())
    reader.send(b"", ended=True)
    with pytest.raises(StreamFault) as caught:
        reader.send(b"")
    assert caught.value.code == frames.STREAM_CLOSED


def test_a_reader_that_breaks_off_gets_nothing_more() -> None:
    """Neither what came in the same frame."""

    class _Breaker(_Reader):
        def message(self, packed: bool, content: bytes) -> None:
            super().message(packed, content)
            self.reset(frames.CANCEL)

    wire = _Wire()
    reader = _Breaker(wire)
    reader.send(_joined([b"1", b"2"]))
    assert reader.came == [b"1"]
    assert wire.of(RST_STREAM) == [frames.CANCEL.to_bytes(4)]
    assert wire.is_forgotten


# What is sent.

_ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.binary(max_size=200)),
        st.tuples(st.just("stream"), st.integers(1, 100)),
        st.tuples(st.just("shrink"), st.integers(1, 100)),
        st.tuples(st.just("wire"), st.integers(1, 100)),
        st.tuples(st.just("frame"), st.integers(1, 100)),
    ),
    max_size=40,
)


@given(st.integers(0, 100), st.integers(0, 100), _ACTS)
def test_never_more_is_sent_than_may_be(
    window: int, first_window: int, acts: list[tuple[str, bytes | int]]
) -> None:
    """And everything in the end, in order, and its ending last."""
    wire = _Wire(window, first_window)
    stream, put = Stream(wire, 1, _MOST_BYTES), b""
    for name, what in acts:
        if isinstance(what, bytes):
            put += message(what)
            stream.put(message(what))
        elif name == "wire":
            wire.widen(what)
        elif name == "frame":
            wire.most_frame_bytes = what
        else:
            change = what if name == "stream" else -what
            wire.taken_of_stream += change
            stream.widen(change)
            # By a smaller first window it may have had too much already: that is no fault.
    stream.finish(_ENDING)
    while not stream.ended_here:
        wire.taken_of_stream += 1000
        stream.widen(1000)
        wire.widen(1000)
    assert b"".join(wire.of(DATA)) == put
    assert [kind for kind, _ in wire.sent].index(frames.HEADERS) == len(wire.sent) - 1


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=8),
    st.lists(st.sampled_from(["stream", "wire", "pause", "resume"]), max_size=40),
)
def test_who_sends_in_turn_goes_on_in_the_end(sizes: list[int], acts: list[str]) -> None:
    """Whatever was in its way: a window, the other one, or an end that reads slowly."""
    wire = _Wire(20, 20)
    stream = Stream(wire, 1, _MOST_BYTES)

    async def send() -> None:
        for size in sizes:
            await stream.put_in_turn(message(bytes(size)))

    def act(name: str) -> None:
        if name == "stream":
            wire.taken_of_stream += 30
            stream.widen(30)
        elif name == "wire":
            wire.widen(30)
        elif name == "pause":
            wire.pauses = True
        else:
            wire.pauses = False
            wire.resume()

    async def run() -> None:
        task = asyncio.create_task(send())
        for name in [*acts, *["resume", "stream", "wire"] * 40, "resume"]:
            await asyncio.sleep(0)
            act(name)
        for _ in range(3):
            await asyncio.sleep(0)
        assert task.done()

    asyncio.run(run())
    assert b"".join(wire.of(DATA)) == _joined(map(bytes, sizes))


async def test_who_sends_in_turn_waits_for_a_slow_reader() -> None:
    """Also where there is a window; and no longer than the stream goes on."""
    wire = _Wire()
    stream = Stream(wire, 1, _MOST_BYTES)
    wire.is_paused = True
    sending = asyncio.create_task(stream.put_in_turn(message(b"")))
    await asyncio.sleep(0)
    assert not sending.done()
    stream.close(frames.CANCEL, "broken off")
    await asyncio.wait_for(sending, 60)


def test_a_window_beyond_all_bounds_is_refused() -> None:
    """It has 31 bits."""
    stream = Stream(_Wire(first_window=frames.MOST_WINDOW_BYTES), 1, _MOST_BYTES)
    with pytest.raises(StreamFault) as caught:
        stream.widen(1)
    assert caught.value.code == frames.FLOW_CONTROL_ERROR


def test_a_stream_that_was_broken_off_sends_nothing_more() -> None:
    """Neither what waited, nor its ending."""
    wire = _Wire(first_window=3)
    stream = Stream(wire, 1, _MOST_BYTES)
    stream.put(message(b"long"))
    stream.finish(_ENDING)
    stream.reset(frames.CANCEL)
    stream.widen(100)
    stream.pump()
    stream.put(message(b"late"))
    stream.finish(_ENDING)
    assert wire.sent[1:] == [(RST_STREAM, frames.CANCEL.to_bytes(4))]


def test_a_stream_is_forgotten_when_both_ends_have_ended() -> None:
    """And not before."""
    for first in ("here", "there"):
        wire = _Wire()
        reader = _Reader(wire)
        for end in (first, "there" if first == "here" else "here"):
            assert not wire.is_forgotten
            if end == "here":
                reader.finish(end_of(1))
            else:
                reader.send(b"", ended=True)
        assert wire.is_forgotten
        assert reader.closed
