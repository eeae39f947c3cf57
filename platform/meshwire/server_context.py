"""What the handler of a call is told of it, and says of it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import grpc

from meshwire import headers
from meshwire.headers import Metadata
from meshwire.stream import Stream

if TYPE_CHECKING:
    from meshwire.server import ServerConnection


class ServerContext(Stream):
    """What handlers use of `grpc.aio.ServicerContext`, by the same names."""

    __slots__ = (
        "_cancelled",
        "_code",
        "_connection",
        "_deadline",
        "_details",
        "_done",
        "_ended",
        "_metadata",
        "_said_last",
        "_trailing",
    )

    def __init__(self, connection: "ServerConnection", number: int, most_bytes: int) -> None:
        super().__init__(connection, number, most_bytes)
        self._connection: Final = connection
        self._metadata: tuple[tuple[str, str | bytes], ...] = ()
        self._deadline: float | None = None
        # Whether the status went out; whether nobody waits for it.
        self._ended = False
        self._cancelled = False
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: Metadata = ()
        # The same as it is sent.
        self._said_last = b""
        self._done: list[Callable[[Any], None]] = []

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What came with the call."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None without one."""
        if self._deadline is None:
            return None
        return max(self._deadline - self._connection.loop.time(), 0.0)

    def peer(self) -> str:
        """The address of the other end, as gRPC writes it."""
        return self._connection.peer

    def peer_identities(self) -> Sequence[bytes] | None:
        """The names in the certificate of the other end; None without one."""
        return self._connection.peer_identities

    def auth_context(self) -> dict[str, list[bytes]]:
        """What the certificate of the other end says, as gRPC names it; empty in plain text."""
        return self._connection.auth_context()

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Sends them at the end. Raises ValueError for what cannot be sent."""
        self._said_last = headers.block(trailing_metadata)
        self._trailing = trailing_metadata

    def trailing_metadata(self) -> Metadata:
        """What is sent at the end."""
        return self._trailing

    def set_code(self, code: grpc.StatusCode) -> None:
        """Ends the call with it."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Ends the call with that text."""
        self._details = details

    def code(self) -> grpc.StatusCode | None:
        """What the call ends with, if the handler has said so."""
        return self._code

    def details(self) -> str:
        """The text that the call ends with."""
        return self._details

    def cancelled(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._cancelled

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._ended or self.closed

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Calls it once the call has ended."""
        if self.done():
            callback(self)
        else:
            self._done.append(callback)

    def _is_done(self) -> None:
        """Calls those back that wait for the end."""
        done, self._done = self._done, []
        for callback in done:
            callback(self)
