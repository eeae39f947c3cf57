"""Durations on the command line."""

import re
from typing import Any, Final

import click

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")


def parse_duration(text: str) -> float | None:
    """The seconds of `30s`, `500ms`, `5m`, `1h`, `7d` or `30`; None where it is none of these."""
    match = _DURATION.fullmatch(text)
    return float(match[1]) * _UNITS[match[2] or "s"] if match else None


def duration_text(nanoseconds: int) -> str:
    """A duration as `parse_duration` reads it, in the largest unit that is exact."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(nanoseconds, size * 1_000_000)
        if not rest and count:
            return f"{count}{unit}"
    return f"{nanoseconds / 1e9:.9f}".rstrip("0").rstrip(".") + "s"


class Duration(click.ParamType[float]):
    """`30s`, `500ms`, `5m`, `7d`; seconds without a unit. Over zero. The value is in seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The seconds."""
        if isinstance(value, float):
            return value
        seconds = parse_duration(str(value))
        if not seconds:
            self.fail(
                f"{value!r} is no duration over zero, such as 30s, 500ms, 5m, 1h or 7d.", param, ctx
            )
        return seconds


DURATION: Final = Duration()
