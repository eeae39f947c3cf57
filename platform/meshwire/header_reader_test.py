"""Headers are read as `hpack` reads them, whatever comes."""

from typing import cast

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwire import frames
from meshwire.frames import ConnectionFault
from meshwire.header_reader import HeaderReader

_MOST_BYTES = 4000
_Header = tuple[str, str]

_STRINGS = (
    st.binary(max_size=20)
    | st.text("abc-/0123", max_size=150).map(str.encode)
    | st.sampled_from([b":path", b"content-type", b":method", b"POST", b"x" * 2000, b"e" * 5000])
)
_HEADERS = st.lists(st.tuples(_STRINGS, _STRINGS, st.booleans()), max_size=6)
# Headers, whether they are written in Huffman's code, and how large the table is from then on.
_BLOCKS = st.lists(
    st.tuples(_HEADERS, st.booleans(), st.none() | st.sampled_from([0, 40, 200, 4096])), max_size=8
)
# An instruction, of what it speaks, and what is written behind it.
_GARBAGE = st.lists(
    st.sampled_from([0x80, 0x40, 0x20, 0x10, 0x00]).flatmap(
        lambda kind: st.integers(0, 255).map(lambda low: bytes((kind | low,)))
    )
    | st.binary(max_size=12)
    | st.binary(max_size=12).map(lambda each: b"\x00" + _string(each) + _string(each))
    | st.binary(max_size=12).map(lambda each: b"\x40\x81\x1f" + _string(each))
).map(b"".join)


def _string(raw: bytes) -> bytes:
    return bytes((len(raw) | 0x80,)) + raw


class _Both:
    """Two readers of the same blocks."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self.ours = HeaderReader(most_bytes)
        self.other = hpack.Decoder(max_header_list_size=most_bytes)

    def read(self, block: bytes) -> list[_Header] | int:
        """What both make of it: headers, or the code of an error."""
        expected: list[_Header] | int
        try:
            raw = cast(list[tuple[bytes, bytes]], self.other.decode(block, raw=True))
            expected = [(_text(name), _text(value)) for name, value in raw]
        except hpack.OversizedHeaderListError:
            expected = frames.ENHANCE_YOUR_CALM
        except hpack.HPACKError:
            expected = frames.COMPRESSION_ERROR
        found: list[_Header] | int
        try:
            found = self.ours.read(block)
        except ConnectionFault as fault:
            found = fault.code
        assert found == expected
        return found


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


@given(_BLOCKS)
def test_what_was_written_is_read(
    blocks: list[tuple[list[tuple[bytes, bytes, bool]], bool, int | None]],
) -> None:
    """By tables that follow those of the writer, however large they may be."""
    writer, readers = hpack.Encoder(), _Both(1 << 20)
    for headers, packed, table_bytes in blocks:
        if table_bytes is not None:
            writer.header_table_size = table_bytes
        block = writer.encode(headers, huffman=packed)
        assert readers.read(block) == [(_text(name), _text(value)) for name, value, _ in headers]


@given(_BLOCKS, st.data())
def test_blocks_that_were_cut_or_changed_are_read_or_refused(
    blocks: list[tuple[list[tuple[bytes, bytes, bool]], bool, int | None]], data: st.DataObject
) -> None:
    """As an error that ends the connection, and never as anything else."""
    writer, readers = hpack.Encoder(), _Both()
    for headers, packed, _ in blocks:
        block = bytearray(writer.encode(headers, huffman=packed))
        if block:
            for at in data.draw(st.lists(st.integers(0, len(block) - 1), max_size=2)):
                block[at] = data.draw(st.integers(0, 255))
            del block[data.draw(st.integers(0, 2 * len(block))) :]
        if isinstance(readers.read(bytes(block)), int):
            return


@given(st.lists(_GARBAGE, max_size=4))
def test_garbage_is_read_or_refused(blocks: list[bytes]) -> None:
    """As an error that ends the connection, and never as anything else."""
    readers = _Both()
    for block in blocks:
        if isinstance(readers.read(block), int):
            return


@given(st.binary(max_size=300))
def test_everything_may_be_written_in_huffmans_code(value: bytes) -> None:
    """Also twice, when it is remembered."""
    readers = _Both(1 << 20)
    for _ in range(2):
        block = hpack.Encoder().encode([(b"x", value, True)])
        assert readers.read(block) == [("x", _text(value))]


@given(st.binary(min_size=1, max_size=100))
def test_what_is_no_huffmans_code_is_refused(packed: bytes) -> None:
    """As it is by others."""
    _Both().read(b"\x00\x01x" + _string(packed))


@pytest.mark.parametrize("first", [0xFF, 0x7F, 0x0F, 0x3F, 0x00])
@pytest.mark.parametrize("count", [0, 4, 5, 6, 1000])
def test_numbers_that_are_too_long_are_refused(first: int, count: int) -> None:
    """Those of headers, of sizes and of lengths."""
    readers = _Both()
    for last in (0x00, 0x01, 0x7F):
        for begin in (bytes((first,)), bytes((first, 0x7F))):
            readers.read(begin + b"\x80" * count + bytes((last,)))
            readers.read(begin + b"\xff" * count)


def test_a_small_block_is_no_large_list() -> None:
    """Even when it names a large header of the table again and again."""
    readers = _Both(10_000)
    large = hpack.Encoder().encode([(b"x", b"v" * 3000)], huffman=False)
    assert readers.read(large + b"\xbe" * 2) == [("x", "v" * 3000)] * 3
    assert readers.read(b"\xbe" * 4) == frames.ENHANCE_YOUR_CALM


def test_what_is_remembered_is_bounded() -> None:
    """A client that sends other tokens each time makes no reader grow."""
    reader, writer = HeaderReader(1 << 20), hpack.Encoder()
    for number in range(300):
        value = f"{number:04}" * (100 if number else 50_000)
        block = writer.encode([(b"x", value.encode(), True)])
        assert reader.read(block) == [("x", value)]
    remembered = reader._remembered  # pyright: ignore[reportPrivateUsage]
    assert 0 < sum(len(key) + len(text) for key, text in remembered.items()) <= 64 * 1024
