"""The headers of gRPC over HTTP/2: how they are written, and what they say.

What is sent is written without Huffman's code and without a table, so that it is the same bytes
each time. What comes is read by `header_reader`.
"""

import base64
import binascii
import math
import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import quote, unquote

Headers = Sequence[tuple[str, str]]
Metadata = Sequence[tuple[str, str | bytes]]
Names = tuple[str, ...]

# Of `:status: 200`, `:method: POST`, `:scheme: http` and `https` in HPACK's static table, and the
# names `:authority` and `:path` (RFC 7541, appendix A).
OK: Final = b"\x88"
_POST: Final = b"\x83"
_SCHEMES: Final = {False: b"\x86", True: b"\x87"}
_AUTHORITY: Final = 1
_PATH: Final = 4
# Says that no proxy is to write it into a table: a credential.
_NEVER_INDEXED: Final = 0x10
_SECRET: Final = frozenset(("authorization",))
_BINARY: Final = "-bin"
# So many names of requests are remembered, where they have no more bytes than that.
_MOST_KNOWN: Final = 100
_MOST_KNOWN_BYTES: Final = 2000
# What a name and a value may be made of.
_NAME: Final = re.compile(rb":?[0-9a-z_.-]+")
_FIRST: Final = frozenset((":method", ":scheme", ":path", ":authority"))
_REQUIRED: Final = _FIRST - {":authority"}
# gRPC's own, and HTTP's: not shown to handlers and callers.
_HIDDEN: Final = _FIRST.union(
    (":status", "te", "content-type", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding")
)
# What says how a connection of HTTP/1.1 is used (RFC 9113, section 8.2.2).
_OF_HTTP_1: Final = frozenset(
    ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade")
)
_VALUE: Final = re.compile(rb"[ -~]*")
_SECONDS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_NANOSECONDS: Final = {
    "n": 1,
    "u": 10**3,
    "m": 10**6,
    "S": 10**9,
    "M": 60 * 10**9,
    "H": 3600 * 10**9,
}
_TIMEOUT_DIGITS: Final = 8
_MOST_TIMEOUT: Final = 10**_TIMEOUT_DIGITS - 1
# What of a `grpc-message` stays as it is: printable ASCII but for the percent sign.
_PLAIN: Final = "".join(chr(each) for each in range(0x20, 0x7F) if each != 0x25)
# Spaces that would not be taken for a part of a value.
_AROUND: Final = re.compile("^ +| +$")


def literal(name: str, value: str | bytes) -> bytes:
    """One header, which stays out of tables. Raises ValueError for what is none."""
    first = _NEVER_INDEXED if name in _SECRET else 0
    key, content = name.encode("ascii", "replace"), _encoded(name, value)
    if not _NAME.fullmatch(key):
        raise ValueError(f"{name!r} is no name of a header")
    if not _VALUE.fullmatch(content):
        raise ValueError(f"the header {name} may have printable ASCII only")
    return bytes((first,)) + _string(key) + _string(content)


def block(headers: Iterable[tuple[str, str | bytes]]) -> bytes:
    """Several headers."""
    return b"".join([literal(name, value) for name, value in headers])


def request_block(authority: str, path: str, *, tls: bool) -> bytes:
    """The headers that all calls of a method have."""
    return b"".join(
        (
            _POST,
            _SCHEMES[tls],
            bytes((_AUTHORITY,)) + _string(authority.encode("ascii")),
            bytes((_PATH,)) + _string(path.encode("ascii")),
            block((("te", "trailers"), ("content-type", "application/grpc"))),
        )
    )


def timeout_header(seconds: float) -> bytes:
    """How long a call may take, as gRPC says it: eight digits at most."""
    nanoseconds = max(math.ceil(min(seconds, _MOST_TIMEOUT * _SECONDS["H"]) * 1e9), 1)
    for unit, size in _NANOSECONDS.items():
        count = -(-nanoseconds // size)
        if count <= _MOST_TIMEOUT:
            return literal("grpc-timeout", f"{count}{unit}")
    return literal("grpc-timeout", f"{_MOST_TIMEOUT}H")


def read_timeout(text: str) -> float:
    """Seconds. Raises ValueError for what is no timeout."""
    digits, unit = text[:-1], text[-1:]
    is_number = digits.isascii() and digits.isdecimal() and len(digits) <= _TIMEOUT_DIGITS
    if unit not in _SECONDS or not is_number:
        raise ValueError(f"{text!r} is no timeout")
    return int(digits) * _SECONDS[unit]


def read_request(headers: Headers, known: set[Names]) -> dict[str, str]:
    """The headers of a request by their names. Raises ValueError for what is no request.

    `known` are names that were found to be good, and are added to: most calls of a client have
    the same.
    """
    named = dict(headers)
    names = tuple(named)
    if names not in known:
        _check_names(names)
        if len(known) >= _MOST_KNOWN:
            known.clear()
        if sum(map(len, names)) <= _MOST_KNOWN_BYTES:
            known.add(names)
    if len(named) != len(headers):
        first = [name for name, _ in headers if name in _FIRST]
        if len(first) != len(set(first)):
            raise ValueError("a header that may come once only")
    values = "".join(named.values())
    if "\n" in values or "\r" in values or "\0" in values:
        raise ValueError("a header of more than a line")
    if not named[":path"] or named.get("te", "trailers") != "trailers":
        raise ValueError("a header that says nothing, or asks for what there is not")
    return named


def metadata(headers: Headers) -> tuple[tuple[str, str | bytes], ...]:
    """What handlers and callers see. Raises ValueError for bytes that cannot be read."""
    seen = [each for each in headers if each[0] not in _HIDDEN]
    if _BINARY not in "".join([name for name, _ in seen]):
        return tuple(seen)
    shown: list[tuple[str, str | bytes]] = []
    for name, value in seen:
        if name.endswith(_BINARY):
            # Whoever passed them on may have joined several.
            shown += [(name, _bytes(each.strip())) for each in value.split(",")]
        else:
            shown.append((name, value))
    return tuple(shown)


def message_header(text: str) -> str:
    """The value of `grpc-message`; what no text may have is replaced."""
    return _AROUND.sub(_escaped, quote(text, safe=_PLAIN, errors="replace"))


def read_message(value: str) -> str:
    """The text of a `grpc-message`."""
    return unquote(value, errors="replace")


def _check_names(names: Names) -> None:
    """Raises ValueError for what no request may have."""
    text = "".join(names)
    # HTTP's own are the first.
    first = names[: text.count(":")]
    if not _REQUIRED <= set(first) <= _FIRST:
        raise ValueError("no headers of a request")
    is_plain = text.isascii() and text.isprintable() and " " not in text
    if not is_plain or text != text.lower() or not _OF_HTTP_1.isdisjoint(names):
        raise ValueError("a header that none may be")


def _escaped(spaces: re.Match[str]) -> str:
    return "%20" * len(spaces[0])


def _bytes(value: str) -> bytes:
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        raise ValueError("binary metadata that is no base64") from None


def _encoded(name: str, value: str | bytes) -> bytes:
    if name.endswith(_BINARY):
        raw = value.encode() if isinstance(value, str) else value
        return base64.b64encode(raw).rstrip(b"=")
    # Spaces around it are no part of it (RFC 9113, section 8.2.1).
    return (value.encode() if isinstance(value, str) else value).strip(b" ")


def _string(text: bytes) -> bytes:
    size = len(text)
    if size < 0x7F:
        return bytes((size,)) + text
    length = bytearray((0x7F,))
    size -= 0x7F
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes(length) + text
