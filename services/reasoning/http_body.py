"""The bodies of HTTP/1.1 answers, taken out of what comes in whatever parts it comes."""

import re
from enum import Enum, auto
from typing import Final

from services.reasoning.http_head import MOST_HEAD_BYTES, Head, NotHttp

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n\x00]*)?\r?")
# A line with the size of a chunk; trailers, all together.
_MOST_LINE_BYTES: Final = 4096


class _Chunks(Enum):
    """What comes next in a chunked body."""

    SIZE = auto()
    CONTENT = auto()
    # Of a chunk's content.
    END = auto()
    TRAILERS = auto()


class Body:
    """Reads one body. Give it what came, take what it holds of it, until it is complete."""

    def __init__(self, head: Head) -> None:
        """The body that follows `head`."""
        self._chunked: Final = head.chunked
        # Of the body or the chunk that is being read; None until the connection ends.
        self._left = 0 if head.chunked else head.length
        self._chunks = _Chunks.SIZE
        self._trailer_bytes = 0
        self.complete = self._left == 0 and not head.chunked

    def feed(self, data: bytearray) -> bytes:
        """The part of the body in `data`, from which it is taken away.

        What is left there is an incomplete line, or what came after the body. Raises NotHttp.
        """
        return self._fed_chunks(data) if self._chunked else self._fed(data)

    def end(self) -> bool:
        """The connection has ended; whether the body is complete now."""
        self.complete = self.complete or (self._left is None and not self._chunked)
        return self.complete

    def _fed(self, data: bytearray) -> bytes:
        if self._left is None or self._left > len(data):
            part = bytes(data)
            data.clear()
        else:
            part = bytes(data[: self._left])
            del data[: self._left]
        if self._left is not None:
            self._left -= len(part)
            self.complete = self._left == 0
        return part

    def _fed_chunks(self, data: bytearray) -> bytes:
        parts: list[bytes] = []
        while not self.complete and data:
            if self._chunks is _Chunks.CONTENT:
                assert self._left is not None
                parts.append(bytes(data[: self._left]))
                del data[: self._left]
                self._left -= len(parts[-1])
                if self._left == 0:
                    self._chunks = _Chunks.END
                continue
            end = data.find(b"\n")
            if end < 0:
                if len(data) > _MOST_LINE_BYTES:
                    raise NotHttp("sent a malformed chunk")
                break
            line = bytes(data[:end])
            del data[: end + 1]
            self._take(line)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _take(self, line: bytes) -> None:
        """A line between the contents of chunks."""
        match self._chunks:
            case _Chunks.SIZE:
                size = _SIZE.fullmatch(line)
                if size is None:
                    raise NotHttp("sent a malformed chunk")
                self._left = int(size[1], 16)
                self._chunks = _Chunks.CONTENT if self._left else _Chunks.TRAILERS
            case _Chunks.END:
                if line not in (b"", b"\r"):
                    raise NotHttp("sent a malformed chunk")
                self._chunks = _Chunks.SIZE
            case _:
                # Nobody asks for trailers.
                self._trailer_bytes += len(line)
                if self._trailer_bytes > MOST_HEAD_BYTES:
                    raise NotHttp("sent endless trailers")
                self.complete = line in (b"", b"\r")
