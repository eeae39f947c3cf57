"""Recognises that something is to wait, for some time or until a point in time."""

import re
from dataclasses import dataclass
from typing import Final

_COUNTS: Final = {
    "half an": 0.5,
    **dict.fromkeys(["a", "an", "one"], 1.0),
    "two": 2.0,
    "three": 3.0,
    "four": 4.0,
    "five": 5.0,
    "six": 6.0,
    "seven": 7.0,
    "eight": 8.0,
    "nine": 9.0,
    "ten": 10.0,
}
_UNITS: Final = {
    "ms": 0.001,
    "millisecond": 0.001,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "m": 60.0,
    "min": 60.0,
    "minute": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
}
_COUNT: Final = rf"(?:\d+(?:\.\d+)?\s*|(?:{'|'.join(_COUNTS)})\s+)"
_UNIT: Final = rf"(?:{'|'.join(sorted(_UNITS, reverse=True))})"
_LENGTH: Final = rf"{_COUNT}{_UNIT}s?\b"
_START: Final = r"(?:^|[,;:]\s*|\b(?:and|then|first|please|to)\s+)(?:wait|pause|sleep)\s+"
_FOR: Final = re.compile(
    rf"{_START}(?:for\s+)?(?P<phrase>{_LENGTH}(?:\s*(?:,|and)?\s*{_LENGTH})*)", re.IGNORECASE
)
_PART: Final = re.compile(rf"\b(?P<count>{_COUNT})(?P<unit>{_UNIT})s?\b", re.IGNORECASE)
_UNTIL: Final = re.compile(
    rf"{_START}(?:until|till)\s+"
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Pause:
    """Some time to wait."""

    # As the clause says it: `5 seconds`, `until 2026-01-31T12:00:00Z`.
    phrase: str
    # 0 where a point in time is named.
    seconds: float
    # RFC 3339; empty where a length is named.
    until: str


def find_pause(clause: str) -> Pause | None:
    """The time that `clause` wants to be waited; None where it names none."""
    until = _UNTIL.search(clause)
    if until is not None:
        return Pause(f"until {until['time']}", 0.0, until["time"])
    match = _FOR.search(clause)
    if match is None:
        return None
    seconds = sum(
        _count(part["count"].strip().lower()) * _UNITS[part["unit"].lower()]
        for part in _PART.finditer(match["phrase"])
    )
    return Pause(match["phrase"], seconds, "") if seconds > 0 else None


def _count(text: str) -> float:
    return _COUNTS[text] if text in _COUNTS else float(text)
