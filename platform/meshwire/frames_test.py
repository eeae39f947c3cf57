"""The frames that are written are read by others, and what is no frame is refused."""

from typing import Any

import pytest
from hyperframe import frame as other
from hypothesis import given
from hypothesis import strategies as st

from meshwire import frames
from meshwire.frames import ConnectionFault

_STREAMS = st.integers(1, frames.LAST_STREAM)
_WORDS = st.integers(0, 2**32 - 1)


def _read(data: bytes) -> list[Any]:
    """What another implementation reads."""
    read: list[Any] = []
    while data:
        each, length = other.Frame.parse_frame_header(memoryview(data)[:9])
        each.parse_body(memoryview(data)[9 : 9 + length])
        read.append(each)
        data = data[9 + length :]
    return read


def _content(data: bytes, kind: int) -> bytes:
    """What the only frame, of that kind, holds."""
    high, low, found, _, _ = frames.HEAD.unpack_from(data)
    assert (found, high << 16 | low) == (kind, len(data) - frames.HEAD_BYTES)
    return data[frames.HEAD_BYTES :]


@given(_STREAMS, st.binary(max_size=100), st.booleans())
def test_data_is_read_as_it_was(stream: int, content: bytes, ended: bool) -> None:
    """With its stream and whether it is the last."""
    (read,) = _read(frames.frame(frames.DATA, frames.END_STREAM * ended, stream, content))
    assert isinstance(read, other.DataFrame)
    assert (read.stream_id, read.data, "END_STREAM" in read.flags) == (stream, content, ended)


@given(st.sampled_from([0, 1, 0xFF, 0x100, 0xFFFF, 0x10000, 0x10001, frames.MOST_FRAME_BYTES]))
def test_every_length_is_said(size: int) -> None:
    """In three bytes."""
    head = frames.frame(frames.DATA, 0, 1, bytes(size))[: frames.HEAD_BYTES]
    assert other.Frame.parse_frame_header(memoryview(head))[1] == size


@given(_STREAMS, st.binary(max_size=200), st.integers(1, 50), st.booleans())
def test_headers_go_on_where_a_frame_ends(
    stream: int, block: bytes, most_bytes: int, ended: bool
) -> None:
    """No frame is larger than one may be, and the last alone ends them."""
    read = _read(frames.header_frames(stream, block, most_bytes, ended=ended))
    first, *others = read
    assert isinstance(first, other.HeadersFrame)
    assert all(isinstance(each, other.ContinuationFrame) for each in others)
    assert ("END_STREAM" in first.flags) == ended
    assert ["END_HEADERS" in each.flags for each in read] == [False] * len(others) + [True]
    assert {each.stream_id for each in read} == {stream}
    assert max(len(each.data) for each in read) <= most_bytes
    assert b"".join(each.data for each in read) == block


@given(
    st.dictionaries(st.integers(frames.MAX_HEADER_LIST_SIZE, 2**16 - 1), _WORDS),
    st.integers(0, 1),
    st.integers(0, frames.MOST_WINDOW_BYTES),
    st.integers(frames.FIRST_FRAME_BYTES, frames.MOST_FRAME_BYTES),
)
def test_settings_are_read_as_they_were(
    others: dict[int, int], push: int, window: int, size: int
) -> None:
    """By another implementation and by this one."""
    values = {
        frames.ENABLE_PUSH: push,
        frames.INITIAL_WINDOW_SIZE: window,
        frames.MAX_FRAME_SIZE: size,
        **others,
    }
    sent = frames.settings(values)
    (read,) = _read(sent)
    assert isinstance(read, other.SettingsFrame)
    assert read.settings == values
    assert frames.read_settings(_content(sent, frames.SETTINGS)) == values


@given(st.integers(0, frames.LAST_STREAM), st.integers(1, frames.MOST_WINDOW_BYTES))
def test_window_updates_are_read_as_they_were(stream: int, size_bytes: int) -> None:
    """By another implementation and by this one."""
    sent = frames.window_update(stream, size_bytes)
    (read,) = _read(sent)
    assert isinstance(read, other.WindowUpdateFrame)
    assert (read.stream_id, read.window_increment) == (stream, size_bytes)
    assert frames.read_number(_content(sent, frames.WINDOW_UPDATE)) == size_bytes


@given(_STREAMS, _WORDS)
def test_resets_are_read_as_they_were(stream: int, code: int) -> None:
    """By another implementation and by this one."""
    sent = frames.rst_stream(stream, code)
    (read,) = _read(sent)
    assert isinstance(read, other.RstStreamFrame)
    assert (read.stream_id, read.error_code) == (stream, code)
    assert frames.read_number(_content(sent, frames.RST_STREAM)) == code


@given(st.integers(0, frames.LAST_STREAM), _WORDS, st.text())
def test_goaways_are_read_as_they_were(last: int, code: int, text: str) -> None:
    """By another implementation and by this one."""
    sent = frames.goaway(last, code, text)
    (read,) = _read(sent)
    assert isinstance(read, other.GoAwayFrame)
    assert (read.last_stream_id, read.error_code) == (last, code)
    assert read.additional_data.decode() == text
    assert frames.read_goaway(_content(sent, frames.GOAWAY)) == (last, code, text)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        (frames.ENABLE_PUSH, 2, frames.PROTOCOL_ERROR),
        (frames.INITIAL_WINDOW_SIZE, frames.MOST_WINDOW_BYTES + 1, frames.FLOW_CONTROL_ERROR),
        (frames.MAX_FRAME_SIZE, frames.FIRST_FRAME_BYTES - 1, frames.PROTOCOL_ERROR),
        (frames.MAX_FRAME_SIZE, frames.MOST_FRAME_BYTES + 1, frames.PROTOCOL_ERROR),
    ],
)
def test_settings_out_of_bounds_are_refused(name: int, value: int, code: int) -> None:
    """With the code that HTTP/2 has for it."""
    with pytest.raises(ConnectionFault) as caught:
        frames.read_settings(_content(frames.settings({name: value}), frames.SETTINGS))
    assert caught.value.code == code


@given(st.binary(max_size=20).filter(lambda each: len(each) % 6))
def test_settings_of_half_a_size_are_refused(content: bytes) -> None:
    """Each is six bytes."""
    with pytest.raises(ConnectionFault) as caught:
        frames.read_settings(content)
    assert caught.value.code == frames.FRAME_SIZE_ERROR


@given(st.binary(max_size=10).filter(lambda each: len(each) != 4))
def test_numbers_of_another_size_are_refused(content: bytes) -> None:
    """They are four bytes."""
    with pytest.raises(ConnectionFault) as caught:
        frames.read_number(content)
    assert caught.value.code == frames.FRAME_SIZE_ERROR


@given(st.binary(max_size=7))
def test_goaways_that_are_too_short_are_refused(content: bytes) -> None:
    """They are eight bytes and a text."""
    with pytest.raises(ConnectionFault) as caught:
        frames.read_goaway(content)
    assert caught.value.code == frames.FRAME_SIZE_ERROR


@given(st.binary(max_size=60), st.integers(0, 255))
def test_padding_is_taken_off(content: bytes, padding: int) -> None:
    """As another implementation has put it on."""
    padded = other.DataFrame(1, content, pad_length=padding, flags=["PADDED"]).serialize()
    body = _content(padded, frames.DATA)
    assert frames.unpadded(frames.PADDED, body) == content
    assert frames.unpadded(0, body) == body


@given(st.integers(0, 20).flatmap(lambda n: st.tuples(st.just(n), st.integers(n + 1, 255))))
def test_more_padding_than_frame_is_refused(sizes: tuple[int, int]) -> None:
    """Also in a frame that does not even say how much it has."""
    size, padding = sizes
    for content in (bytes((padding,)) + bytes(size), b""):
        with pytest.raises(ConnectionFault) as caught:
            frames.unpadded(frames.PADDED, content)
        assert caught.value.code == frames.PROTOCOL_ERROR
