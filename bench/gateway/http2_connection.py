"""One connection by HTTP/2 over which gRPC is asked, with as little work as can be."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, cast

from bench.gateway.http_calls import CallFailed

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GO_AWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS, _PADDED = 1, 1, 4, 8
_FRAME_BYTES: Final = 9
_MESSAGE_BYTES: Final = 5
_MOST_FRAME_BYTES: Final = 16_384
_MOST_HEADER_BYTES: Final = 126
# What a server may send of an answer, and of all of them before it is told to go on.
_STREAM_WINDOW: Final = 1 << 20
_WINDOW_BYTES: Final = 1 << 22
# What may be sent at first, over a connection and on each of its streams.
_FIRST_CREDIT: Final = 65_535
# Numbers in HPACK's static table of `:method POST`, `:scheme http`, `:authority` and `:path`.
_POST, _HTTP, _AUTHORITY, _PATH = b"\x83", b"\x86", b"\x01", b"\x04"

Message = Callable[[bytes], None]


def header_block(authority: str, path: str, headers: Mapping[str, str]) -> bytes:
    """The headers of a request, without Huffman's code and without a table: alike each time."""
    block = _POST + _HTTP + _AUTHORITY + _text(authority) + _PATH + _text(path)
    return block + b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())


class Http2Connection(asyncio.Protocol):
    """Made by `loop.create_connection`; any number of calls at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._received: Final = bytearray()
        self._calls: Final[dict[int, _Call]] = {}
        self._next = 1
        self._credit = _FIRST_CREDIT
        self._taken = 0
        self._leaving = False

    @property
    def usable(self) -> bool:
        """Whether another call can be made over it."""
        return not self._leaving and not self._transport.is_closing()

    def ask(self, block: bytes, message: bytes, answer: Message) -> asyncio.Future[None]:
        """Makes a call, and gives `answer` each message that comes; done at its end.

        An error has no message: what it is stands in headers that nobody here can read.
        """
        number, call = self._new(answer)
        headers = _frame(_HEADERS, _END_HEADERS, number, block)
        self._transport.write(headers + self._message(number, message, _END_STREAM))
        return call.ended

    def begin(self, block: bytes, answer: Message) -> "OpenCall":
        """Makes a call of several messages, which are still to be sent; else as `ask`."""
        number, call = self._new(answer)
        self._transport.write(_frame(_HEADERS, _END_HEADERS, number, block))

        def send(message: bytes) -> None:
            self._transport.write(self._message(number, message, 0))

        def end() -> None:
            self._transport.write(_frame(_DATA, _END_STREAM, number, b""))

        return OpenCall(call.ended, send, end)

    def close(self) -> None:
        """Closes it."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there: says what may be sent, and that headers come without a table."""
        self._transport = cast(asyncio.Transport, transport)
        wanted = {1: 0, 2: 0, 4: _STREAM_WINDOW}
        settings = b"".join(name.to_bytes(2) + value.to_bytes(4) for name, value in wanted.items())
        self._transport.write(_PREFACE + _frame(_SETTINGS, 0, 0, settings))
        self._widen(_WINDOW_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        for call in self._calls.values():
            call.fail("broke the connection")
        self._calls.clear()

    def data_received(self, data: bytes) -> None:
        """Takes the frames that are complete."""
        self._received.extend(data)
        at, received = 0, bytes(self._received)
        while len(received) - at >= _FRAME_BYTES:
            end = at + _FRAME_BYTES + int.from_bytes(received[at : at + 3])
            if end > len(received):
                break
            number = int.from_bytes(received[at + 5 : at + 9])
            self._take(received[at + 3], received[at + 4], number, received[at + 9 : end])
            at = end
        del self._received[:at]

    def _new(self, answer: Message) -> tuple[int, "_Call"]:
        number, self._next = self._next, self._next + 2
        call = self._calls[number] = _Call(answer)
        return number, call

    def _message(self, number: int, message: bytes, flags: int) -> bytes:
        data = b"\0" + len(message).to_bytes(4) + message
        self._credit -= len(data)
        if self._credit < 0 or len(data) > _MOST_FRAME_BYTES:
            raise CallFailed("has no room for the request")
        return _frame(_DATA, flags, number, data)

    def _take(self, kind: int, flags: int, number: int, content: bytes) -> None:
        if kind == _DATA:
            self._taken += len(content)
            if self._taken > _STREAM_WINDOW:
                self._widen(self._taken)
                self._taken = 0
            if call := self._calls.get(number):
                call.take(content, padded=bool(flags & _PADDED))
        elif kind == _SETTINGS and not flags & _ACK:
            self._transport.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._transport.write(_frame(_PING, _ACK, 0, content))
        elif kind == _GO_AWAY:
            self._leaving = True
        elif kind == _WINDOW and number == 0:
            self._credit += int.from_bytes(content)
        elif kind == _RESET and (call := self._calls.pop(number, None)):
            call.fail(f"broke the call off with {int.from_bytes(content)}")
        ends = kind in (_DATA, _HEADERS) and flags & _END_STREAM
        if ends and (call := self._calls.pop(number, None)):
            call.end()

    def _widen(self, size: int) -> None:
        self._transport.write(_frame(_WINDOW, 0, 0, size.to_bytes(4)))


class OpenCall:
    """A call that takes messages until it is told to end."""

    def __init__(self, ended: asyncio.Future[None], send: Message, end: Callable[[], None]) -> None:
        # Done when the server has ended it; failed where it broke off.
        self.ended: Final = ended
        self._send: Final = send
        self._end: Final = end
        self._credit = _FIRST_CREDIT

    def has_room(self, size_bytes: int) -> bool:
        """Whether a message of that size may be sent: a server never widens what it may be."""
        return self._credit >= size_bytes + _MESSAGE_BYTES and not self.ended.done()

    def send(self, message: bytes) -> None:
        """Sends a message for which there is room. Raises CallFailed."""
        self._credit -= len(message) + _MESSAGE_BYTES
        self._send(message)

    def end(self) -> None:
        """Sends no more; the answers that are due still come."""
        if not self.ended.done():
            self._end()


class _Call:
    """What came of a call."""

    __slots__ = ("_answer", "_received", "ended")

    def __init__(self, answer: Message) -> None:
        self.ended: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self._answer: Final = answer
        self._received = b""

    def take(self, content: bytes, *, padded: bool) -> None:
        """Gives the messages that are complete."""
        if padded or (content and not self._received and content[0]):
            self.fail("sent what is padded or packed")
            return
        self._received += content
        while len(self._received) >= _MESSAGE_BYTES:
            end = _MESSAGE_BYTES + int.from_bytes(self._received[1:_MESSAGE_BYTES])
            if len(self._received) < end:
                return
            message, self._received = self._received[_MESSAGE_BYTES:end], self._received[end:]
            self._answer(message)

    def end(self) -> None:
        """All has come."""
        if not self.ended.done():
            self.ended.set_result(None)

    def fail(self, text: str) -> None:
        """Nothing more comes."""
        if not self.ended.done():
            self.ended.set_exception(CallFailed(text))


def _frame(kind: int, flags: int, number: int, content: bytes) -> bytes:
    return len(content).to_bytes(3) + bytes((kind, flags)) + number.to_bytes(4) + content


def _text(text: str) -> bytes:
    encoded = text.encode("ascii")
    if len(encoded) > _MOST_HEADER_BYTES:
        raise ValueError(f"{text!r} is longer than a header of the benchmark may be")
    return bytes((len(encoded),)) + encoded
