"""Durations on the command line."""

import re
from typing import Any, Final

import click

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")


class Duration(click.ParamType[float]):
    """`30s`, `500ms`, `5m`, `7d`; seconds without a unit. Over zero. The value is in seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The seconds."""
        if isinstance(value, float):
            return value
        match = _DURATION.fullmatch(str(value))
        seconds = float(match[1]) * _UNITS[match[2] or "s"] if match else 0.0
        if seconds <= 0:
            self.fail(
                f"{value!r} is no duration over zero, such as 30s, 500ms, 5m, 1h or 7d.", param, ctx
            )
        return seconds


DURATION: Final = Duration()
