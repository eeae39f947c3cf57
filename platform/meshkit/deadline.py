"""How long the caller still waits, passed on from call to call."""

import time
from contextvars import ContextVar, Token
from typing import Final

from meshkit.error_reasons import DeadlineExceeded

# Kept back from a nested call, so that its failure can still be answered.
_RESERVE_SECONDS: Final = 0.05
_RESERVE_SHARE: Final = 0.1

# In seconds of time.monotonic, the clock that gRPC's own deadlines follow.
_deadline: ContextVar[float | None] = ContextVar("meshkit_deadline", default=None)


def remaining_seconds() -> float | None:
    """Seconds that are left, at least 0; None where there is no limit."""
    deadline = _deadline.get()
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def adopt(seconds: float | None) -> None:
    """Sets the limit for the rest of this asyncio task; None for none."""
    _deadline.set(None if seconds is None else time.monotonic() + seconds)


class limit:  # noqa: N801 - it reads as a statement; a generator would take three times as long
    """Inside the block at most that many seconds are left; never more than before."""

    __slots__ = ("_seconds", "_token")

    def __init__(self, seconds: float) -> None:
        self._seconds: Final = seconds
        self._token: Token[float | None]

    def __enter__(self) -> None:
        end = time.monotonic() + self._seconds
        outer = _deadline.get()
        self._token = _deadline.set(end if outer is None else min(outer, end))

    def __exit__(self, *_: object) -> None:
        _deadline.reset(self._token)


def timeout_for(call_seconds: float) -> float:
    """The timeout for a nested call that would like `call_seconds`.

    It is shortened to what is left, less a reserve for answering. Raises
    DeadlineExceeded where nothing is left.
    """
    deadline = _deadline.get()
    if deadline is None:
        return call_seconds
    left = deadline - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded("The time limit ran out before the call was made.")
    return min(call_seconds, left - min(_RESERVE_SECONDS, left * _RESERVE_SHARE))
