"""One end of an HTTP/2 connection (RFC 9113), on asyncio: frames, settings, windows, pings."""

import asyncio
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, cast

from meshwire import frames
from meshwire.frames import (
    DATA,
    HEAD,
    HEAD_BYTES,
    HEADERS,
    ConnectionFault,
    StreamFault,
    frame,
)
from meshwire.header_frames import HeaderFrames
from meshwire.headers import Headers
from meshwire.keepalive import Keepalive
from meshwire.rate import Rate
from meshwire.stream import WINDOW_BYTES, Stream

# What the other end may send over all streams before it is told to go on.
_WINDOW_BYTES: Final = 1 << 24
# More than proxies let pass of a client, which is up to 60 KiB and then what they add: headers
# beyond it end the connection, and with it others' calls.
_MOST_HEADER_BYTES: Final = 128 * 1024
_MOST_SETTINGS_A_SECOND: Final = 100
# What is written before the turn of the loop is over.
_MOST_UNSENT_BYTES: Final = 64 * 1024
# How long an end may take to read that the connection ends.
_CLOSE_SECONDS: Final = 5.0
_KEEPALIVE: Final = b"keepalve"


class Connection(asyncio.Protocol, ABC):
    """What both ends have in common."""

    def __init__(
        self,
        settings: dict[int, int],
        *,
        keepalive_seconds: float,
        keepalive_timeout_seconds: float,
    ) -> None:
        """`settings`: what this end says of itself, besides windows and sizes.

        An end that is silent for `keepalive_seconds` is pinged, and has failed when it does
        not answer within `keepalive_timeout_seconds`.
        """
        self.streams: Final[dict[int, Stream]] = {}
        # As `stream.Wire` has them.
        self.window = frames.FIRST_WINDOW_BYTES
        self.most_frame_bytes = frames.FIRST_FRAME_BYTES
        self.first_window = frames.FIRST_WINDOW_BYTES
        # What the other end may still send over all streams.
        self.allowed = _WINDOW_BYTES
        self.is_paused = False
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._settings: Final = settings
        self._loop: Final = asyncio.get_running_loop()
        self.keepalive: Final = Keepalive(
            self, self._loop, seconds=keepalive_seconds, timeout_seconds=keepalive_timeout_seconds
        )
        self._rest = b""
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        # What is still to come of the preface of a client.
        self._preface_left = b""
        self._header_frames: Final = HeaderFrames(_MOST_HEADER_BYTES)
        self._taken = 0
        self._waiting: Final[OrderedDict[int, Stream]] = OrderedDict()
        self._settings_rate: Final = Rate(_MOST_SETTINGS_A_SECOND)
        self.heard_at = self._loop.time()
        self._closing: asyncio.TimerHandle | None = None
        self._on_pong: Final[dict[bytes, Callable[[], None]]] = {}
        self.lost = False

    def write(self, data: bytes) -> None:
        """Sends frames, with all others of this turn of the loop: each write has its price."""
        if not self.lost:
            if not self._unsent:
                self._loop.call_soon(self._flush)
            self._unsent.append(data)
            self._unsent_bytes += len(data)
            # Whoever never waits must hear that the other end is slow.
            if self._unsent_bytes > _MOST_UNSENT_BYTES:
                self._flush()

    def wait_for_window(self, stream: Stream) -> None:
        """Has the stream `pump` once there is something to be sent."""
        self._waiting[stream.number] = stream

    def forget(self, stream: Stream) -> None:
        """The stream has ended on both sides, or was broken off."""
        self.streams.pop(stream.number, None)
        self._waiting.pop(stream.number, None)

    def ping(self, content: bytes, answered: Callable[[], None]) -> None:
        """Pings the other end, and calls `answered` when it answers."""
        self._on_pong[content] = answered
        self.write(frame(frames.PING, 0, 0, content))

    def abort(self, code: int, text: str) -> None:
        """Says why, and ends the connection with all its streams."""
        if not self.lost:
            self.write(frames.goaway(self.last_taken, code, text))
            self.close()
            self._lose(code, text)

    def close(self) -> None:
        """Ends the connection once the other end has read what it was sent, or soon."""
        if self._closing is None:
            self._flush()
            self._transport.close()
            self._closing = self._loop.call_later(_CLOSE_SECONDS, self._transport.abort)

    def _flush(self) -> None:
        unsent, self._unsent, self._unsent_bytes = self._unsent, [], 0
        if unsent and not self._transport.is_closing():
            self._transport.write(b"".join(unsent))

    # What differs between the two ends.

    def opening(self) -> bytes:
        """What this end says before anything else."""
        return b""

    @property
    def last_taken(self) -> int:
        """The last stream of the other end that was taken in."""
        return 0

    @abstractmethod
    def headers_received(self, number: int, headers: Headers, *, ended: bool) -> None:
        """Headers came. Raises ConnectionFault and StreamFault."""

    @abstractmethod
    def is_idle(self, number: int) -> bool:
        """Whether nobody has begun that stream yet."""

    def told_to_leave(self, last_stream: int, code: int, text: str) -> None:
        """The other end takes no stream after `last_stream`."""

    def pinged(self) -> None:
        """The other end has pinged. Raises ConnectionFault where it does so too often."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self._transport = cast(asyncio.Transport, transport)
        self.heard_at = self._loop.time()
        says = {frames.INITIAL_WINDOW_SIZE: WINDOW_BYTES, **self._settings}
        says[frames.MAX_HEADER_LIST_SIZE] = _MOST_HEADER_BYTES
        wider = frames.window_update(0, _WINDOW_BYTES - frames.FIRST_WINDOW_BYTES)
        self.write(self.opening() + frames.settings(says) + wider)
        self.keepalive.begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if self._closing is not None:
            self._closing.cancel()
        # Its transport need not know yet that it is gone.
        self._unsent = []
        text = f"the connection broke: {exc}" if exc else "it was closed"
        self._lose(frames.INTERNAL_ERROR, text)

    def pause_writing(self) -> None:
        """The other end reads too slowly."""
        self.is_paused = True

    def resume_writing(self) -> None:
        """It has read what there was."""
        self.is_paused = False
        self._pump(everyone=True)

    def data_received(self, data: bytes) -> None:
        """Takes the frames that are complete."""
        if self.lost:
            return
        self.heard_at = self._loop.time()
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        try:
            if self._preface_left:
                at = self._take_preface(data)
            while size - at >= HEAD_BYTES:
                high, low, kind, flags, number = HEAD.unpack_from(data, at)
                length = high << 16 | low
                if length > frames.FIRST_FRAME_BYTES:
                    raise ConnectionFault(frames.FRAME_SIZE_ERROR, "a frame that is too large")
                end = at + HEAD_BYTES + length
                if end > size:
                    break
                self._take(kind, flags, number & frames.LAST_STREAM, data[at + HEAD_BYTES : end])
                at = end
        except ConnectionFault as fault:
            self.abort(fault.code, fault.text)
            return
        self._rest = data[at:]

    def _take_preface(self, data: bytes) -> int:
        """How much of the data it was."""
        left = self._preface_left
        part = data[: len(left)]
        if not left.startswith(part):
            raise ConnectionFault(frames.PROTOCOL_ERROR, "no connection of HTTP/2")
        self._preface_left = left[len(part) :]
        return len(part)

    def _take(self, kind: int, flags: int, number: int, content: bytes) -> None:
        if self._header_frames.is_open and kind != frames.CONTINUATION:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "headers that do not go on")
        if kind == DATA:
            self._data(flags, number, content)
        elif kind == frames.WINDOW_UPDATE:
            self._widen(number, frames.read_number(content))
        elif kind == HEADERS:
            self._headers(number, self._header_frames.begin(flags, number, content))
        elif kind == frames.CONTINUATION:
            self._headers(number, self._header_frames.go_on(flags, number, content))
        elif kind == frames.PING:
            self._ping(flags, number, content)
        elif kind == frames.SETTINGS:
            self._apply(flags, number, content)
        elif kind == frames.RST_STREAM:
            self._reset(number, frames.read_number(content))
        elif kind == frames.GOAWAY:
            if number:
                raise ConnectionFault(frames.PROTOCOL_ERROR, "a GOAWAY on a stream")
            self.told_to_leave(*frames.read_goaway(content))
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a push that nobody wants")
        elif kind == frames.PRIORITY:
            self._ignore_priority(number, content)

    def _data(self, flags: int, number: int, content: bytes) -> None:
        size = len(content)
        self.allowed -= size
        self._taken += size
        if self.allowed < 0:
            raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "more data than may be sent")
        if self._taken >= _WINDOW_BYTES // 2:
            self.write(frames.window_update(0, self._taken))
            self.allowed += self._taken
            self._taken = 0
        if flags & frames.PADDED:
            content = frames.unpadded(flags, content)
        stream = self.streams.get(number)
        if stream is None:
            self._refuse_idle(number)
            return
        try:
            stream.data(content, size, ended=bool(flags & frames.END_STREAM))
        except StreamFault as fault:
            self._break(number, fault)

    def _headers(self, number: int, said: tuple[Headers, bool] | None) -> None:
        try:
            if said is not None:
                self.headers_received(number, said[0], ended=said[1])
        except StreamFault as fault:
            self._break(number, fault)

    def _ping(self, flags: int, number: int, content: bytes) -> None:
        if number:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a ping on a stream")
        if len(content) != frames.PING_BYTES:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "a ping of another size")
        if flags & frames.ACK:
            answered = self._on_pong.pop(content, None)
            if answered is not None:
                answered()
            return
        self.pinged()
        self.write(frame(frames.PING, frames.ACK, 0, content))

    def _apply(self, flags: int, number: int, content: bytes) -> None:
        if number:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "settings on a stream")
        if flags & frames.ACK:
            if content:
                raise ConnectionFault(frames.FRAME_SIZE_ERROR, "settings in an answer to them")
            return
        # A change of windows is work for every stream.
        if self._settings_rate.is_exceeded(self.heard_at):
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "settings that change all the time")
        values = frames.read_settings(content)
        self.most_frame_bytes = values.get(frames.MAX_FRAME_SIZE, self.most_frame_bytes)
        # Before what is sent by them: the other end reckons by them from the answer on.
        self.write(frame(frames.SETTINGS, frames.ACK, 0))
        if frames.INITIAL_WINDOW_SIZE in values:
            self._change_first_window(values[frames.INITIAL_WINDOW_SIZE])
        self.settings_changed(values)

    def settings_changed(self, values: dict[int, int]) -> None:
        """What the other end says of itself, as far as it has changed."""

    def _change_first_window(self, value: int) -> None:
        difference, self.first_window = value - self.first_window, value
        for stream in tuple(self.streams.values()):
            try:
                stream.widen(difference)
            except StreamFault as fault:
                raise ConnectionFault(fault.code, fault.text) from None

    def _widen(self, number: int, size_bytes: int) -> None:
        size_bytes &= frames.MOST_WINDOW_BYTES
        if not number:
            if not size_bytes:
                raise ConnectionFault(frames.PROTOCOL_ERROR, "a window that does not grow")
            self.window += size_bytes
            if self.window > frames.MOST_WINDOW_BYTES:
                raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "a window beyond all bounds")
            self._pump(everyone=False)
            return
        stream = self.streams.get(number)
        if stream is None:
            self._refuse_idle(number)
            return
        try:
            if not size_bytes:
                raise StreamFault(frames.PROTOCOL_ERROR, "a window that does not grow")
            stream.widen(size_bytes)
        except StreamFault as fault:
            self._break(number, fault)

    def _reset(self, number: int, code: int) -> None:
        stream = self.streams.get(number)
        if stream is None:
            self._refuse_idle(number)
        else:
            stream.close(code, f"RST_STREAM with error code {code}")

    def _ignore_priority(self, number: int, content: bytes) -> None:
        if not number:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a priority of no stream")
        if len(content) != frames.PRIORITY_BYTES:
            self._break(number, StreamFault(frames.FRAME_SIZE_ERROR, "a priority of another size"))
        else:
            frames.check_priority(number, content)

    def _refuse_idle(self, number: int) -> None:
        """A stream that has ended may still be spoken of; one that nobody began may not."""
        if not number or self.is_idle(number):
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a stream that nobody has begun")

    def _break(self, number: int, fault: StreamFault) -> None:
        stream = self.streams.get(number)
        if stream is None:
            self.write(frames.rst_stream(number, fault.code))
        else:
            stream.reset(fault.code)
            stream.broken(fault.code, fault.text)

    def _pump(self, *, everyone: bool) -> None:
        """Lets `everyone` go on that has waited, or as many as the window is wide enough for."""
        for _ in range(len(self._waiting)):
            if not self._waiting or (self.window <= 0 and not everyone):
                return
            _, stream = self._waiting.popitem(last=False)
            stream.pump()

    def is_watched(self) -> bool:
        """Whether an end that is silent is pinged."""
        return True

    def ask(self) -> None:
        """Pings the other end, which is to answer anything."""
        self.write(frame(frames.PING, 0, 0, _KEEPALIVE))

    def give_up(self) -> None:
        """The other end has gone without a word."""
        self._transport.abort()
        self._lose(frames.INTERNAL_ERROR, "it answers no pings")

    def _lose(self, code: int, text: str) -> None:
        """Everything that is under way has failed."""
        if self.lost:
            return
        self.lost = True
        self.keepalive.end()
        for stream in tuple(self.streams.values()):
            stream.close(code, text)
        self.ended(text)

    def ended(self, why: str) -> None:
        """The connection is gone, and everything that was on it."""

    def extra_info(self, name: str) -> Any:
        """What asyncio knows of the transport under that name."""
        return self._transport.get_extra_info(name)
