"""The frames of HTTP/2 (RFC 9113), and what may be wrong with them."""

from struct import Struct
from typing import Final

# Kinds of frames.
DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

# Flags.
ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

# Settings.
HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

# Error codes.
NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2
FLOW_CONTROL_ERROR: Final = 3
STREAM_CLOSED: Final = 5
FRAME_SIZE_ERROR: Final = 6
REFUSED_STREAM: Final = 7
CANCEL: Final = 8
COMPRESSION_ERROR: Final = 9
ENHANCE_YOUR_CALM: Final = 11

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES: Final = 9
# What a frame may hold, and what may be sent, until the other end says otherwise.
FIRST_FRAME_BYTES: Final = 16_384
FIRST_WINDOW_BYTES: Final = 65_535
MOST_FRAME_BYTES: Final = (1 << 24) - 1
MOST_WINDOW_BYTES: Final = (1 << 31) - 1
LAST_STREAM: Final = (1 << 31) - 1
PING_BYTES: Final = 8
PRIORITY_BYTES: Final = 5

# The length in two parts, the kind, the flags, the stream.
HEAD: Final = Struct(">BHBBL")
_NUMBER: Final = Struct(">L")
_SETTING: Final = Struct(">HL")
_GOAWAY: Final = Struct(">LL")


class ConnectionFault(Exception):
    """What ends a connection: the other end does not keep to the protocol."""

    def __init__(self, code: int, text: str) -> None:
        """`code` is one of HTTP/2's; `text` says to the other end what is wrong."""
        super().__init__(text)
        self.code: Final = code
        self.text: Final = text


class StreamFault(Exception):
    """What ends one stream and leaves the others alone."""

    def __init__(self, code: int, text: str) -> None:
        """`code` is one of HTTP/2's."""
        super().__init__(text)
        self.code: Final = code
        self.text: Final = text


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """A frame as it is sent."""
    size = len(content)
    return HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + content


def header_frames(stream: int, block: bytes, most_bytes: int, *, ended: bool) -> bytes:
    """A HEADERS frame, and CONTINUATIONs where it would hold more than `most_bytes`."""
    flags = END_STREAM if ended else 0
    if len(block) <= most_bytes:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    sent = [frame(HEADERS, flags, stream, block[:most_bytes])]
    for at in range(most_bytes, len(block), most_bytes):
        end = at + most_bytes
        is_last = END_HEADERS if end >= len(block) else 0
        sent.append(frame(CONTINUATION, is_last, stream, block[at:end]))
    return b"".join(sent)


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*each) for each in values.items()))


def window_update(stream: int, size_bytes: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, _NUMBER.pack(size_bytes))


def rst_stream(stream: int, code: int) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, _NUMBER.pack(code))


def goaway(last_stream: int, code: int, text: str = "") -> bytes:
    """A GOAWAY frame."""
    return frame(GOAWAY, 0, 0, _GOAWAY.pack(last_stream, code) + text.encode())


def read_settings(content: bytes) -> dict[int, int]:
    """The settings of a frame; the last of each name counts. Raises ConnectionFault."""
    if len(content) % _SETTING.size:
        raise ConnectionFault(FRAME_SIZE_ERROR, "settings of half a size")
    values = dict[int, int](_SETTING.iter_unpack(content))
    if values.get(INITIAL_WINDOW_SIZE, 0) > MOST_WINDOW_BYTES:
        raise ConnectionFault(FLOW_CONTROL_ERROR, "a window beyond all bounds")
    size = values.get(MAX_FRAME_SIZE, FIRST_FRAME_BYTES)
    if not FIRST_FRAME_BYTES <= size <= MOST_FRAME_BYTES:
        raise ConnectionFault(PROTOCOL_ERROR, "no size of frames")
    if values.get(ENABLE_PUSH, 0) > 1:
        raise ConnectionFault(PROTOCOL_ERROR, "a push that is neither on nor off")
    return values


def read_number(content: bytes) -> int:
    """What a WINDOW_UPDATE or a RST_STREAM says. Raises ConnectionFault."""
    if len(content) != _NUMBER.size:
        raise ConnectionFault(FRAME_SIZE_ERROR, "a frame of another size than its kind has")
    (number,) = _NUMBER.unpack(content)
    return number


def read_goaway(content: bytes) -> tuple[int, int, str]:
    """The last stream, the code and the text of a GOAWAY. Raises ConnectionFault."""
    if len(content) < _GOAWAY.size:
        raise ConnectionFault(FRAME_SIZE_ERROR, "a GOAWAY that is too short")
    last, code = _GOAWAY.unpack_from(content)
    return last & LAST_STREAM, code, content[_GOAWAY.size :].decode("utf-8", "replace")


def check_priority(number: int, content: bytes) -> None:
    """Of a stream that waits for itself: raises ConnectionFault."""
    if int.from_bytes(content[:4]) & LAST_STREAM == number:
        raise ConnectionFault(PROTOCOL_ERROR, "a stream that waits for itself")


def unpadded(flags: int, content: bytes) -> bytes:
    """What a DATA or HEADERS frame holds. Raises ConnectionFault."""
    if not flags & PADDED:
        return content
    if not content or content[0] >= len(content):
        raise ConnectionFault(PROTOCOL_ERROR, "more padding than frame")
    return content[1 : len(content) - content[0]]
