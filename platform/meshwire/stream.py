"""One stream of an HTTP/2 connection: gRPC's messages, and how many of them may be on their way."""

import asyncio
from collections import deque
from typing import Final, Protocol

from meshwire import frames
from meshwire.frames import DATA, END_STREAM, StreamFault, frame, window_update
from meshwire.headers import Headers

# What the other end may send of one stream before it is told to go on.
WINDOW_BYTES: Final = 1 << 20
# A flag, and the length of the message behind it.
_PREFIX_BYTES: Final = 5


class Wire(Protocol):
    """What a stream needs of its connection."""

    # What may be sent at this moment, over all streams and in one frame.
    window: int
    most_frame_bytes: int
    # What may be sent of a stream that begins.
    first_window: int
    # Whether the connection is gone.
    lost: bool

    @property
    def is_paused(self) -> bool:
        """Whether the other end reads more slowly than it is written to."""
        ...

    def write(self, data: bytes) -> None:
        """Sends frames."""
        ...

    def wait_for_window(self, stream: "Stream") -> None:
        """Has the stream `pump` once there is something to be sent, or `is_paused` ends."""
        ...

    def forget(self, stream: "Stream") -> None:
        """The stream has ended on both sides, or was broken off."""
        ...


class Stream:
    """What both ends of a call have in common. Subclasses say what becomes of what comes."""

    __slots__ = (
        "_allowed",
        "_deaf",
        "_ending",
        "_missing",
        "_most_bytes",
        "_outbox",
        "_rest",
        "_room",
        "_unread",
        "_wire",
        "closed",
        "ended_here",
        "ended_there",
        "number",
        "window",
    )

    def __init__(self, wire: Wire, number: int, most_bytes: int) -> None:
        """`most_bytes`: of one message that comes."""
        self.number: Final = number
        # What may be sent at this moment.
        self.window = wire.first_window
        # Nothing more is sent; nothing more comes; neither.
        self.ended_here = False
        self.ended_there = False
        self.closed = False
        self._wire: Final = wire
        self._most_bytes: Final = most_bytes
        # What the other end may still send, and what is in messages that nobody has taken yet.
        self._allowed = WINDOW_BYTES
        self._unread = 0
        # Of a message that is not complete, and how much of it at least is missing.
        self._rest = bytearray()
        self._missing = 0
        # What comes after a message that was too large is not looked at.
        self._deaf = False
        self._outbox: Final[deque[memoryview]] = deque()
        # What ends the stream once the rest is sent.
        self._ending: bytes | None = None
        self._room: asyncio.Future[None] | None = None

    @property
    def is_untouched(self) -> bool:
        """Whether no message of the other end has begun to come."""
        return self._allowed == WINDOW_BYTES

    # What comes: subclasses override these.

    def begin(self, said: Headers, *, ended: bool) -> None:
        """Headers, or trailers, came. Raises StreamFault."""

    def message(self, packed: bool, content: bytes) -> None:
        """A message came, `packed` by gRPC's compression or not. Raises StreamFault."""

    def too_large(self, size_bytes: int) -> None:
        """A message comes that is larger than one may be."""

    def ended_by_peer(self) -> None:
        """Nothing more comes. Raises StreamFault."""

    def broken(self, code: int, text: str) -> None:
        """The other end, or the connection, broke it off; `code` is one of HTTP/2's."""

    # What the connection says.

    def data(self, content: bytes, size_bytes: int, *, ended: bool) -> None:
        """Takes a DATA frame of `size_bytes` with padding. Raises StreamFault."""
        self._allowed -= size_bytes
        if self.ended_there:
            raise StreamFault(frames.STREAM_CLOSED, "data after the end")
        if self._allowed < 0:
            raise StreamFault(frames.FLOW_CONTROL_ERROR, "more data than may be sent")
        if self._deaf:
            pass
        elif len(content) < self._missing:
            self._rest += content
            self._missing -= len(content)
        elif content:
            self._split(bytes(self._rest) + content if self._rest else content)
        if ended:
            self.end_there()
        else:
            self._give_credit()

    def end_there(self) -> None:
        """The other end sends no more. Raises StreamFault."""
        self.ended_there = True
        if self._rest:
            raise StreamFault(frames.PROTOCOL_ERROR, "half a message")
        self.ended_by_peer()
        self._close_if_ended()

    def widen(self, size_bytes: int) -> None:
        """More may be sent, or less. Raises StreamFault."""
        self.window += size_bytes
        if self.window > frames.MOST_WINDOW_BYTES:
            raise StreamFault(frames.FLOW_CONTROL_ERROR, "a window beyond all bounds")
        if self._outbox:
            self.pump()

    def close(self, code: int, text: str) -> None:
        """It is broken off by the other end, or by the connection."""
        if not self.closed:
            self._close()
            self.broken(code, text)

    # What is sent.

    def put(self, content: bytes) -> None:
        """Sends bytes of messages as soon as they may be sent."""
        if self.closed:
            return
        size = len(content)
        wire = self._wire
        room = min(self.window, wire.window, wire.most_frame_bytes)
        if not self._outbox and size <= room:
            self.window -= size
            wire.window -= size
            wire.write(frame(DATA, 0, self.number, content))
            return
        self._outbox.append(memoryview(content))
        self.pump()

    async def put_in_turn(self, content: bytes) -> None:
        """As `put`; returns when there is room for more."""
        self.put(content)
        while (self._outbox or self._wire.is_paused) and not self.closed:
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            self._wire.wait_for_window(self)
            await asyncio.shield(self._room)

    def finish(self, ending: bytes) -> None:
        """Sends the frame that ends it once everything else is sent."""
        if not self.closed:
            self._ending = ending
            self.pump()

    def reset(self, code: int) -> None:
        """Breaks it off; nothing more is heard of it."""
        if not self.closed:
            self._wire.write(frames.rst_stream(self.number, code))
            self._close()

    def pump(self) -> None:
        """Sends what may be sent."""
        wire, outbox = self._wire, self._outbox
        while outbox:
            room = min(self.window, wire.window, wire.most_frame_bytes)
            if room <= 0:
                # Who widens its own window has it go on.
                if self.window > 0:
                    wire.wait_for_window(self)
                return
            piece, rest = outbox[0][:room], outbox[0][room:]
            if rest:
                outbox[0] = rest
            else:
                outbox.popleft()
            self.window -= len(piece)
            wire.window -= len(piece)
            wire.write(frame(DATA, 0, self.number, piece.tobytes()))
        if self._ending is not None and not self.ended_here:
            self.ended_here = True
            wire.write(self._ending)
            self._close_if_ended()
        if not wire.is_paused:
            self._let_go_on()
        elif self._room is not None:
            wire.wait_for_window(self)

    def took(self, size_bytes: int) -> None:
        """A message of that size was taken by who waited for it."""
        self._unread -= size_bytes + _PREFIX_BYTES
        self._give_credit()

    def _split(self, buffer: bytes) -> None:
        """Gives the messages that are complete, and keeps the rest."""
        at, size = 0, len(buffer)
        while True:
            left = size - at
            if left < _PREFIX_BYTES:
                self._missing = _PREFIX_BYTES - left
                break
            packed = buffer[at]
            if packed > 1:
                raise StreamFault(frames.PROTOCOL_ERROR, "no message of gRPC")
            length = int.from_bytes(buffer[at + 1 : at + _PREFIX_BYTES])
            if length > self._most_bytes:
                self._rest.clear()
                self._deaf = True
                self.too_large(length)
                return
            end = at + _PREFIX_BYTES + length
            if end > size:
                self._missing = end - size
                break
            # With its prefix: messages of nothing take room, too.
            self._unread += length + _PREFIX_BYTES
            self.message(bool(packed), buffer[at + _PREFIX_BYTES : end])
            if self.closed:
                return
            at = end
        self._rest = bytearray(buffer[at:])

    def _give_credit(self) -> None:
        credit = WINDOW_BYTES - self._allowed - self._unread
        if credit >= WINDOW_BYTES // 2 and not self.closed:
            self._wire.write(window_update(self.number, credit))
            self._allowed += credit

    def _close_if_ended(self) -> None:
        if self.ended_here and self.ended_there and not self.closed:
            self._close()

    def _close(self) -> None:
        self.closed = True
        self._outbox.clear()
        self._ending = None
        self._rest.clear()
        self._wire.forget(self)
        self._let_go_on()

    def _let_go_on(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)


def message(content: bytes) -> bytes:
    """A message as gRPC sends it, not packed."""
    return b"\0" + len(content).to_bytes(4) + content


def end_of(number: int) -> bytes:
    """The frame by which a caller says that it sends no more."""
    return frame(DATA, END_STREAM, number)
