"""Amounts of money on the command line."""

import re
from typing import Any, Final

import click

_AMOUNT: Final = re.compile(r"\$?(\d+)(?:\.(\d+))?", re.ASCII)
_MICROS: Final = 1_000_000
_MOST_DECIMALS: Final = 6
# More than this the governor does not take.
_MOST_DOLLARS: Final = 9_000_000_000


class Dollars(click.ParamType[int]):
    """`0.05`, `$2`: US dollars to a millionth, over zero. The value is in millionths."""

    name = "dollars"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The millionths."""
        if isinstance(value, int):
            return value
        match = _AMOUNT.fullmatch(str(value))
        if match is None:
            self.fail(_none(value), param, ctx)
        whole, decimals = match[1].lstrip("0"), match[2] or ""
        if len(decimals) > _MOST_DECIMALS:
            self.fail(f"{value!r} has more than six decimals.", param, ctx)
        # Not all digits that there are: to read a million of them takes a minute.
        too_long = len(whole) > len(str(_MOST_DOLLARS))
        micros = 0 if too_long else int((whole or "0") + decimals.ljust(_MOST_DECIMALS, "0"))
        if too_long or micros > _MOST_DOLLARS * _MICROS:
            self.fail(f"The most is {_MOST_DOLLARS} dollars, not {str(value)[:40]}.", param, ctx)
        if not micros:
            self.fail(_none(value), param, ctx)
        return micros


def _none(value: Any) -> str:
    return f"{value!r} is no amount of dollars over zero, such as 0.05 or 2."


DOLLARS: Final = Dollars()
