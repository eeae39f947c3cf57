"""The head of an HTTP/1.1 answer: its status, its headers, and how its body ends."""

import re
from typing import Final

from meshkit.frozen import frozen

# More than any provider sends. What is longer is no answer of one.
MOST_HEAD_BYTES: Final = 64 * 1024
_MOST_LENGTH_DIGITS: Final = 18
_LINE_END: Final = rb"\r?(?=\n|\Z)"
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\r\n\x00]*)?%s" % _LINE_END)
_NAME: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE: Final = rb"(?:[^\x00\r\n]*[^\x00\r\n \t])?"
# With the line end before it: as many as there are line ends are all of a head.
_HEADER: Final = re.compile(rb"\n(%s):[ \t]*+(%s)[ \t]*%s" % (_NAME, _VALUE, _LINE_END))
_LENGTH: Final = re.compile(rb"[0-9]{1,%d}" % _MOST_LENGTH_DIGITS)
_SWITCHING: Final = 101
# Answers that have no body, whatever their headers say.
_BODILESS: Final = (204, 304)


class NotHttp(Exception):
    """What came is no answer by HTTP/1.1. The text is a clause for people."""


@frozen
class Head:
    """What stands before a body."""

    status: int
    # As sent, in their order.
    headers: list[tuple[bytes, bytes]]
    # How many bytes the body has; None where it is chunked, or ends with the connection.
    length: int | None
    chunked: bool
    # Whether the connection can be used again after the body.
    lasting: bool
    # Whether the body is packed: it may be of any size once it is unpacked.
    packed: bool

    @property
    def interim(self) -> bool:
        """Whether another head follows."""
        return self.status < 200


def read_head(lines: bytes) -> Head:
    """The head in `lines`, which end before the blank line.

    Raises NotHttp: a client that guesses what a server means can be made to take a part of
    one answer for another.
    """
    status = _STATUS.match(lines)
    if status is None:
        raise NotHttp("sent no status line")
    headers: list[tuple[bytes, bytes]] = _HEADER.findall(lines)
    if len(headers) != lines.count(b"\n"):
        raise NotHttp("sent a malformed header")
    length: bytes | None = None
    coding = connection = b""
    packed = False
    for name, value in headers:
        match name.lower():
            case b"content-length":
                if length not in (None, value) or not _LENGTH.fullmatch(value):
                    raise NotHttp("sent a malformed content-length")
                length = value
            case b"transfer-encoding":
                coding += value.lower() + b","
            case b"connection":
                connection += value.lower() + b","
            case b"content-encoding":
                packed = packed or value.lower() != b"identity"
            case _:
                pass
    if coding not in (b"", b"chunked,") or (coding and length is not None):
        raise NotHttp("does not say where its answer ends")
    code = int(status[2])
    if code == _SWITCHING:
        raise NotHttp("wants to speak another protocol")
    ends = bool(coding) or length is not None or code in _BODILESS
    return Head(
        status=code,
        headers=headers,
        length=0 if code in _BODILESS else None if length is None else int(length),
        chunked=bool(coding) and code not in _BODILESS,
        lasting=ends and status[1] == b"1" and b"close" not in connection,
        packed=packed,
    )
