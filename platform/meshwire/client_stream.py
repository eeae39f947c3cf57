"""What a server says of a call on one connection, and what that means."""

from typing import Final, Protocol, cast

import grpc

from meshwire import frames, headers
from meshwire.frames import DATA, END_STREAM, StreamFault, frame, header_frames
from meshwire.headers import Headers
from meshwire.stream import Stream, Wire, end_of

_Code = grpc.StatusCode
_CODES: Final = {str(cast(tuple[int, str], code.value)[0]): code for code in _Code}
# What an HTTP status means where a proxy answered, and what an error code of HTTP/2 does, both as
# gRPC says it ("HTTP to gRPC Status Code Mapping", "gRPC over HTTP2").
_BY_HTTP_STATUS: Final = {
    "400": _Code.INTERNAL,
    "401": _Code.UNAUTHENTICATED,
    "403": _Code.PERMISSION_DENIED,
    "404": _Code.UNIMPLEMENTED,
    "429": _Code.UNAVAILABLE,
    "502": _Code.UNAVAILABLE,
    "503": _Code.UNAVAILABLE,
    "504": _Code.UNAVAILABLE,
}
_BY_RESET: Final = {
    frames.REFUSED_STREAM: _Code.UNAVAILABLE,
    frames.CANCEL: _Code.CANCELLED,
    frames.ENHANCE_YOUR_CALM: _Code.RESOURCE_EXHAUSTED,
}

Metadata = tuple[tuple[str, str | bytes], ...]


class Call(Protocol):
    """Whoever has made the call."""

    def arrived(self, stream: Stream, content: bytes) -> None:
        """An answer came."""
        ...

    def ended(self, code: grpc.StatusCode, details: str, trailing: Metadata) -> None:
        """It has ended; only the first time counts."""
        ...

    def refused(self) -> None:
        """Nobody has seen it: it is made once more where it can be."""
        ...


class ClientStream(Stream):
    """What comes of one call on one connection, for a `ClientCall`."""

    __slots__ = ("_call", "_headers", "_trailers")

    def __init__(self, wire: Wire, number: int, most_bytes: int, call: Call) -> None:
        super().__init__(wire, number, most_bytes)
        self._call: Final = call
        # None until they came.
        self._headers: Headers | None = None
        self._trailers: Headers | None = None

    def begin(self, said: Headers, *, ended: bool) -> None:
        """Headers, or trailers, came."""
        if self._headers is None and not ended:
            named = dict(said)
            if named.get(":status", "").startswith("1"):
                return
            self._headers = said
            if named.get(":status") != "200":
                code, text, _ = _by_http(named)
                self._fail(code, text)
            return
        if not ended:
            raise StreamFault(frames.PROTOCOL_ERROR, "headers in the middle of a call")
        self._trailers = said
        self.end_there()

    def message(self, packed: bool, content: bytes) -> None:
        """An answer came."""
        if packed:
            self._fail(_Code.INTERNAL, "A packed message, which nobody has asked for.")
        else:
            self._call.arrived(self, content)

    def too_large(self, size_bytes: int) -> None:
        """An answer is larger than one may be."""
        self._fail(
            _Code.RESOURCE_EXHAUSTED,
            f"Received message larger than max ({size_bytes} vs. {self._most_bytes})",
        )

    def ended_by_peer(self) -> None:
        """It ends, with a status or without."""
        self._call.ended(*self._status())
        if not self.ended_here:
            self.reset(frames.NO_ERROR)

    def broken(self, code: int, text: str) -> None:
        """The other end broke it off, or the connection is gone."""
        if self._wire.lost:
            self._call.ended(_Code.UNAVAILABLE, f"The connection was lost: {text}", ())
        elif code == frames.REFUSED_STREAM and self._headers is None:
            self._call.refused()
        else:
            self._call.ended(_BY_RESET.get(code, _Code.INTERNAL), f"Received {text}", ())

    def refused(self) -> None:
        """Nobody has seen the call."""
        self._close()
        self._call.refused()

    def open(self, block: bytes) -> None:
        """Begins the call; its requests follow."""
        most = self._wire.most_frame_bytes
        self._wire.write(header_frames(self.number, block, most, ended=False))

    def open_with(self, block: bytes, content: bytes) -> None:
        """Begins the call with its only request, at once where there is room for it."""
        wire, number, size = self._wire, self.number, len(content)
        begins = header_frames(number, block, wire.most_frame_bytes, ended=False)
        if size <= min(self.window, wire.window, wire.most_frame_bytes):
            self.window -= size
            wire.window -= size
            self.ended_here = True
            wire.write(begins + frame(DATA, END_STREAM, number, content))
        else:
            wire.write(begins)
            self.put(content)
            self.finish(end_of(number))

    def give_up(self) -> None:
        """Nobody waits for the answer any more."""
        self.reset(frames.CANCEL)

    def _status(self) -> tuple[grpc.StatusCode, str, Metadata]:
        named = dict(self._trailers or ())
        status = named.get("grpc-status")
        if status is None:
            if self._headers is None:
                return _by_http(named)
            return _Code.INTERNAL, "The call ended without a status.", ()
        text = headers.read_message(named.get("grpc-message", ""))
        try:
            return _CODES.get(status, _Code.UNKNOWN), text, _shown(self._trailers or ())
        except ValueError as error:
            return _Code.INTERNAL, str(error), ()

    def _fail(self, code: grpc.StatusCode, text: str) -> None:
        self._call.ended(code, text, ())
        self.reset(frames.CANCEL)


def _by_http(named: dict[str, str]) -> tuple[grpc.StatusCode, str, Metadata]:
    status = named.get(":status", "")
    code = _BY_HTTP_STATUS.get(status, _Code.UNKNOWN)
    return code, f"Received http2 header with status: {status}", ()


def _shown(said: Headers) -> Metadata:
    own = ("grpc-status", "grpc-message")
    return tuple([each for each in headers.metadata(said) if each[0] not in own])
