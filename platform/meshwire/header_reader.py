"""Reads blocks of headers (HPACK, RFC 7541), five times as fast as `hpack` does.

Its tables are those of `hpack`: the static one, and Huffman's code, which is read by bytes here
and by half bytes there.
"""

from collections import deque
from typing import Final

from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE
from hpack.table import HeaderTable

from meshwire.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ConnectionFault

Header = tuple[str, str]
# With what it counts for in tables and lists, and its name in bytes.
_Entry = tuple[Header, int, int]

# What a header counts for besides its bytes; what the table may hold, since nobody says otherwise.
_OVERHEAD_BYTES: Final = 32
_TABLE_BYTES: Final = 4096
# A number takes this many bytes more than its first at most.
_NUMBER_BYTES: Final = 5
# Of what stands in no table but comes with many calls: methods, and tokens of those who call.
_REMEMBERED_BYTES: Final = 64 * 1024
# What one counts for besides its bytes, about what a dictionary takes for it.
_REMEMBERED_OVERHEAD_BYTES: Final = 160
_DEAD: Final = 256


def _entry(name: bytes, value: bytes) -> _Entry:
    # What is no text is no reason to end a connection on which others call, too.
    header = (name.decode(errors="replace"), value.decode(errors="replace"))
    return header, len(name) + len(value) + _OVERHEAD_BYTES, len(name)


_STATIC: Final = [_entry(*each) for each in ((b"", b""), *HeaderTable.STATIC_TABLE)]
_STATIC_LENGTH: Final = len(_STATIC)


class HeaderReader:
    """What one end of a connection knows of the other's headers."""

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes`: of all headers of a block, with 32 for each."""
        self._most_bytes: Final = most_bytes
        self._table: Final[deque[_Entry]] = deque()
        self._table_bytes = 0
        self._most_table_bytes = _TABLE_BYTES
        self._remembered: Final[dict[bytes, bytes]] = {}
        self._remembered_bytes = 0

    def read(self, block: bytes) -> list[Header]:
        """The headers of a block. Raises ConnectionFault."""
        try:
            return self._read(block)
        except IndexError:
            raise _unreadable() from None

    def _read(self, block: bytes) -> list[Header]:
        headers: list[Header] = []
        at, size, left = 0, len(block), self._most_bytes
        while at < size:
            first = block[at]
            at += 1
            if first >= 0x80:
                index = first & 0x7F
                if index == 0x7F:
                    index, at = _number(block, at, index)
                entry = self._find(index)
            elif first & 0xE0 == 0x20:
                if headers:
                    raise _unreadable()
                at = self._resize(block, at, first & 0x1F)
                continue
            else:
                is_kept = first >= 0x40
                mask = 0x3F if is_kept else 0x0F
                index = first & mask
                if index == mask:
                    index, at = _number(block, at, index)
                if index:
                    (name, _), _, name_bytes = self._find(index)
                else:
                    raw, at = self._string(block, at, is_kept=is_kept)
                    name, name_bytes = raw.decode(errors="replace"), len(raw)
                raw, at = self._string(block, at, is_kept=is_kept)
                cost = name_bytes + len(raw) + _OVERHEAD_BYTES
                entry = ((name, raw.decode(errors="replace")), cost, name_bytes)
                if is_kept:
                    self._keep(entry)
            headers.append(entry[0])
            left -= entry[1]
            if left < 0:
                raise ConnectionFault(ENHANCE_YOUR_CALM, "headers that are too large")
        return headers

    def _find(self, index: int) -> _Entry:
        if index >= _STATIC_LENGTH:
            return self._table[index - _STATIC_LENGTH]
        if not index:
            raise _unreadable()
        return _STATIC[index]

    def _keep(self, entry: _Entry) -> None:
        self._table.appendleft(entry)
        self._table_bytes += entry[1]
        self._shrink()

    def _resize(self, block: bytes, at: int, most_bytes: int) -> int:
        if most_bytes == 0x1F:
            most_bytes, at = _number(block, at, most_bytes)
        if most_bytes > _TABLE_BYTES:
            raise _unreadable()
        self._most_table_bytes = most_bytes
        self._shrink()
        return at

    def _shrink(self) -> None:
        """Also of what was kept just now: a header that is too large empties the table."""
        while self._table_bytes > self._most_table_bytes:
            self._table_bytes -= self._table.pop()[1]

    def _string(self, block: bytes, at: int, *, is_kept: bool) -> tuple[bytes, int]:
        """The bytes of a name or a value, and where the block goes on."""
        first = block[at]
        at += 1
        length = first & 0x7F
        if length == 0x7F:
            length, at = _number(block, at, length)
        end = at + length
        if end > len(block):
            raise _unreadable()
        raw = block[at:end]
        if first < 0x80:
            return raw, end
        if is_kept:
            return _unpacked(raw), end
        known = self._remembered.get(raw)
        if known is None:
            known = _unpacked(raw)
            self._remember(raw, known)
        return known, end

    def _remember(self, packed: bytes, text: bytes) -> None:
        size = len(packed) + len(text) + _REMEMBERED_OVERHEAD_BYTES
        if self._remembered_bytes + size > _REMEMBERED_BYTES:
            self._remembered.clear()
            self._remembered_bytes = 0
        if size <= _REMEMBERED_BYTES:
            self._remembered[packed] = text
            self._remembered_bytes += size


def _unreadable() -> ConnectionFault:
    return ConnectionFault(COMPRESSION_ERROR, "headers that cannot be read")


def _number(block: bytes, at: int, number: int) -> tuple[int, int]:
    """A number that its first byte does not hold, and where the block goes on."""
    for shift in range(0, 7 * _NUMBER_BYTES, 7):
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise _unreadable()


# By state and byte: the next state, and what it is the end of. Rows come into being when used.
_Row = list[tuple[int, bytes]]
_ROWS: Final[list[_Row]] = [_Row() for _ in range(_DEAD)] + [[(_DEAD, b"")] * 256]
_ACCEPTED: Final = {0} | {state for state, flags, _ in HUFFMAN_TABLE if flags & HUFFMAN_COMPLETE}


def _unpacked(packed: bytes) -> bytes:
    """What was written in Huffman's code."""
    state, text = 0, bytearray()
    for byte in packed:
        row = _ROWS[state] or _make_row(state)
        state, symbols = row[byte]
        text += symbols
    if state not in _ACCEPTED:
        raise _unreadable()
    return bytes(text)


def _make_row(state: int) -> _Row:
    row = _ROWS[state] = [_step(state, byte) for byte in range(256)]
    return row


def _step(state: int, byte: int) -> tuple[int, bytes]:
    symbols = b""
    for half in (byte >> 4, byte & 0x0F):
        state, flags, symbol = HUFFMAN_TABLE[state * 16 + half]
        if flags & HUFFMAN_FAIL:
            return _DEAD, b""
        if flags & HUFFMAN_EMIT_SYMBOL:
            symbols += bytes((symbol,))
    return state, symbols
