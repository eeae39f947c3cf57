"""W3C trace context, passed on from call to call.

A traceparent is `00-<trace id, 32 hex>-<span id, 16 hex>-<flags, 2 hex>`.
"""

import random
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, NamedTuple

_FORM: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16

RandomHex = Callable[[int], str]  # bytes wanted -> twice as many hexadecimal digits


class Span(NamedTuple):
    """A place in a trace: the work that is being done now."""

    trace_id: str
    span_id: str
    sampled: bool

    @property
    def traceparent(self) -> str:
        """The span as the header says it."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def random_digits(count: int) -> str:
    """Digits for identifiers that must differ but are no secret.

    The operating system's randomness would give up the interpreter's lock, and
    a span is made for every call.
    """
    return random.randbytes(count).hex()


_current: ContextVar[Span | None] = ContextVar("meshkit_trace", default=None)


def current() -> Span | None:
    """The span of the work that is being done, if it is traced."""
    return _current.get()


def parse(traceparent: str) -> Span | None:
    """The span that a header names; None where it is missing or malformed."""
    match = _FORM.fullmatch(traceparent)
    if match is None or match[1] == _NO_TRACE or match[2] == _NO_SPAN:
        return None
    return Span(match[1], match[2], bool(int(match[3], 16) & 1))


def child(parent: Span | None = None, *, random_hex: RandomHex = random_digits) -> Span:
    """A span under `parent`, or under the current one; a new trace where there is neither."""
    above = parent or _current.get()
    if above is None:
        return Span(random_hex(16), random_hex(8), sampled=True)
    return Span(above.trace_id, random_hex(8), above.sampled)


def adopt(span: Span) -> None:
    """Makes `span` the current one for the rest of this asyncio task."""
    _current.set(span)


@contextmanager
def use(span: Span) -> Generator[Span]:
    """Makes `span` the current one inside the block."""
    token = _current.set(span)
    try:
        yield span
    finally:
        _current.reset(token)
