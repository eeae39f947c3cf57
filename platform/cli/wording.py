"""Figures and texts as people read them."""

import re
from datetime import datetime
from typing import Final

_MICROS: Final = 1_000_000
# Everything that could move the cursor or change the terminal's state.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    """`text` without control characters: documents and tools must not steer the terminal."""
    return _CONTROL.sub("", text.replace("\r\n", "\n"))


def shorten(text: str, limit: int) -> str:
    """`text` in one line of at most `limit` characters."""
    line = " ".join(clean(text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def dollars(micros: int) -> str:
    """An amount of millionths of a US dollar, exact, with at least two decimals."""
    whole, rest = divmod(abs(micros), _MICROS)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micros < 0 else ''}${whole:,}.{decimals}"


def seconds(value: float) -> str:
    """A duration in the unit that fits it."""
    if value < 0.0995:
        return f"{value * 1000:.2g} ms" if value < 0.00095 else f"{value * 1000:.0f} ms"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def moment(value: datetime) -> str:
    """A time in the local zone, to the second."""
    return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def zoned_moment(value: datetime) -> str:
    """A time in the local zone with its offset from UTC: `2026-11-21 09:00:00 +01:00`."""
    offset = value.astimezone().strftime("%z")
    return f"{moment(value)} {offset[:3]}:{offset[3:5]}"


def plural(count: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
