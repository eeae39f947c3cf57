"""Messages as they travel to and from a NATS server. Pure.

After the protocol's description, https://docs.nats.io/reference/reference-protocols/nats-protocol.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

_VERSION: Final = b"NATS/1.0"
# A status stands behind the version, after a space: `NATS/1.0 503 No Responders`.
_BEFORE_STATUS: Final = slice(len(_VERSION), len(_VERSION) + 1)
_STATUS: Final = slice(len(_VERSION) + 1, len(_VERSION) + 4)
_END: Final = b"\r\n"
# With a header, and without.
_KINDS: Final = (b"HMSG ", b"MSG ")
# In a subject these would end the command.
_SEPARATOR: Final = re.compile(r"[ \t\r\n]")


class WireMessage:
    """A message that came. Its headers are read when somebody asks for them."""

    __slots__ = ("_head", "data", "reply", "subject")

    def __init__(self, subject: str, reply: str, head: bytes, data: bytes) -> None:
        self.subject: Final = subject
        self.reply: Final = reply
        self.data: Final = data
        self._head: Final = head

    @property
    def status(self) -> str:
        """What the server says by itself, such as 503 for `nobody there`; empty in a message."""
        head = self._head
        return head[_STATUS].decode() if head[_BEFORE_STATUS] == b" " else ""

    @property
    def description(self) -> str:
        """The words beside the status."""
        line, _, _ = self._head.partition(_END)
        return line[_STATUS.stop :].decode("utf-8", "replace").strip() if self.status else ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers; a status is none."""
        if not self._head:
            return {}
        headers: dict[str, str] = {}
        for line in self._head.decode("utf-8", "replace").split("\r\n")[1:]:
            key, is_header, value = line.partition(":")
            if is_header:
                headers[key.strip()] = value.strip()
        return headers


def head(headers: Mapping[str, str]) -> bytes:
    """The headers, as they stand before a message. ValueError where one would be two."""
    if not headers:
        return b""
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
        raise ValueError("a header has one line")
    return b"%b\r\n%b\r\n" % (_VERSION, lines.encode())


def interest(subject: str, number: int) -> bytes:
    """What asks for the messages of a subject, as a subscription of that number.

    ValueError where the subject is none.
    """
    return b"SUB %b %d\r\n" % (_checked(subject), number)


def no_interest(number: int) -> bytes:
    """What ends the subscription of that number."""
    return b"UNSUB %d\r\n" % number


def command(subject: str, payload: bytes, reply: str, head: bytes) -> bytes:
    """What publishes a message. ValueError where the subject is none."""
    if not head:
        return b"PUB %b %b %d\r\n%b\r\n" % (
            _checked(subject),
            reply.encode(),
            len(payload),
            payload,
        )
    return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (
        _checked(subject),
        reply.encode(),
        len(head),
        len(head) + len(payload),
        head,
        payload,
    )


def _checked(subject: str) -> bytes:
    if not subject or _SEPARATOR.search(subject):
        raise ValueError(f"{subject!r} is no subject")
    return subject.encode()


def take_messages(buffer: bytearray, take: Callable[[str, WireMessage], None]) -> None:
    """Removes the whole messages at the front of `buffer`, and gives each to `take`.

    It comes with the number of its subscription. ValueError or IndexError where
    the front is no message though it begins like one.
    """
    start, size = 0, len(buffer)
    while buffer.startswith(_KINDS, start):
        line_end = buffer.find(_END, start)
        if line_end < 0:
            break
        # (H)MSG subject subscription [reply] [bytes of the header] bytes
        fields = buffer[start:line_end].decode().split(" ")
        has_head = fields[0] == "HMSG"
        data_start = head_start = line_end + 2
        data_end = head_start + int(fields[-1])
        if data_end + 2 > size:
            break
        if has_head:
            data_start += int(fields[-2])
        start = data_end + 2
        take(
            fields[2],
            WireMessage(
                fields[1],
                fields[3] if len(fields) > 4 + has_head else "",
                bytes(buffer[head_start:data_start]),
                bytes(buffer[data_start:data_end]),
            ),
        )
    if start:
        del buffer[:start]
