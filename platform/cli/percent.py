"""Shares on the command line."""

import re
from typing import Any, Final

import click

_PERCENT: Final = re.compile(r"(\d{1,9}) ?%?", re.ASCII)

_MOST: Final = 100


class Percent(click.ParamType[int]):
    """`80`, `80%`, or `off`, which is 0: whole percent, up to 100."""

    name = "percent"

    def __init__(self, *, never_off: str = "") -> None:
        """`never_off`: why it cannot be turned off; empty where it can."""
        self._never_off: Final = never_off

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The percent."""
        if isinstance(value, int):
            return value
        match = _PERCENT.fullmatch(str(value))
        if match is None and value != "off":
            self.fail(
                f"{value!r} is no whole percentage from 0 to 100, such as 80, or off.", param, ctx
            )
        percent = int(match[1]) if match else 0
        if percent > _MOST:
            self.fail(f"A percentage is from 0 to 100, not {value}.", param, ctx)
        if not percent and self._never_off:
            self.fail(self._never_off, param, ctx)
        return percent


PERCENT: Final = Percent()
