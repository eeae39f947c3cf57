"""Shares on the command line."""

import re
from typing import Any, Final

import click

_PERCENT: Final = re.compile(r"(\d{1,3}) ?%?")


class Percent(click.ParamType[int]):
    """`80`, `80%`, or `off`, which is 0: whole percent."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The percent."""
        if isinstance(value, int):
            return value
        if value == "off":
            return 0
        match = _PERCENT.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is no whole percentage, such as 80, or off.", param, ctx)
        return int(match[1])


PERCENT: Final = Percent()
