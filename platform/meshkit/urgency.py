"""Whether somebody waits for what is done here, passed on from call to call.

Proxies have limits and connections of their own for urgent calls, so that no flood of
others takes their place.
"""

from contextvars import ContextVar, Token
from typing import Final

_urgent: ContextVar[bool] = ContextVar("meshkit_urgency", default=False)


def is_urgent() -> bool:
    """Whether it is."""
    return _urgent.get()


def adopt(urgent: bool) -> None:
    """Says so for the rest of this asyncio task."""
    _urgent.set(urgent)


class use:  # noqa: N801 - it reads as a statement; a generator would take three times as long
    """Says so inside the block."""

    __slots__ = ("_token", "_urgent")

    def __init__(self, urgent: bool) -> None:
        self._urgent: Final = urgent
        self._token: Token[bool]

    def __enter__(self) -> None:
        self._token = _urgent.set(self._urgent)

    def __exit__(self, *_: object) -> None:
        _urgent.reset(self._token)
