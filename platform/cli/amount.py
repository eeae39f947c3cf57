"""Amounts of money on the command line."""

import re
from decimal import Decimal
from typing import Any, Final

import click

_AMOUNT: Final = re.compile(r"\$?(\d{1,9}(?:\.\d{1,6})?)")
_MICROS: Final = 1_000_000


class Dollars(click.ParamType[int]):
    """`0.05`, `$2`: US dollars to a millionth, over zero. The value is in millionths."""

    name = "dollars"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The millionths."""
        if isinstance(value, int):
            return value
        match = _AMOUNT.fullmatch(str(value))
        micros = int(Decimal(match[1]) * _MICROS) if match else 0
        if micros <= 0:
            self.fail(
                f"{value!r} is no amount of dollars over zero, such as 0.05 or 2.", param, ctx
            )
        return micros


DOLLARS: Final = Dollars()
