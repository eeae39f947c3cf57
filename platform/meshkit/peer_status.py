"""The status that a peer ended a call with, kept from gRPC's client, which may write over it.

A message that is sent too late for that fails, and `grpc.aio` then says INTERNAL in place of what
the peer said: https://github.com/grpc/grpc/issues/36066.
"""

from collections.abc import Awaitable, Generator
from typing import Any, TypeVar

import grpc

from meshkit.errors import is_broken_write

T = TypeVar("T")


class PeerStatus:
    """What one call of many messages ended with."""

    def __init__(self) -> None:
        self._said: grpc.aio.AioRpcError | None = None

    def watched(self, call: Any) -> Any:
        """The call itself, which has just begun."""
        # Called again when the status is written over.
        call.add_done_callback(self._keep)
        return call

    def of(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """What the peer said, where `error`, with which the call failed, says nothing of it."""
        return self._said if self._said is not None and is_broken_write(error) else error

    def _keep(self, call: Any) -> None:
        status = grpc.aio.AioRpcError(
            _known(call.code()),
            grpc.aio.Metadata(),
            _known(call.trailing_metadata()),
            details=_known(call.details()),
        )
        if status.code() is not grpc.StatusCode.OK and not is_broken_write(status):
            self._said = status


def _known(value: Awaitable[T]) -> T:
    """What a call that has ended says of itself without waiting."""
    waiting: Generator[Any, None, T] = value.__await__()
    try:
        next(waiting)
    except StopIteration as done:
        return done.value
    raise RuntimeError("the call has not ended")
