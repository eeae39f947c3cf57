"""Understands an expression and computes it, by the grammar in expression.lark."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

from lark import Lark
from lark.exceptions import UnexpectedEOF, UnexpectedInput

from services.tool import number
from services.tool.number import Number, NumberFault

MAX_CHARACTERS: Final = 1000
MAX_NESTING: Final = 64

_GRAMMAR: Final = Path(__file__).with_name("expression.lark")
_CONSTANTS: Final[Mapping[str, Number]] = {
    "pi": number.constant(
        Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628621")
    ),
    "e": number.constant(
        Decimal("2.71828182845904523536028747135266249775724709369995957496696762772407663035355")
    ),
}
# Each with how many arguments it takes, at least and at most.
_FUNCTIONS: Final[Mapping[str, tuple[Callable[..., Number], int, int]]] = {
    "abs": (number.absolute, 1, 1),
    "ceil": (number.ceiling, 1, 1),
    "exp": (number.exponential, 1, 1),
    "floor": (number.floor, 1, 1),
    "ln": (number.natural_logarithm, 1, 1),
    "log": (number.logarithm, 1, 2),
    "max": (lambda *each: max(each, key=lambda n: n.value), 1, MAX_CHARACTERS),
    "min": (lambda *each: min(each, key=lambda n: n.value), 1, MAX_CHARACTERS),
    "round": (number.rounded, 1, 2),
    "sqrt": (number.square_root, 1, 1),
}
# What matters for thousands separators: names before parentheses, parentheses, numbers.
_PIECES: Final = re.compile(
    r"[A-Za-z_][A-Za-z0-9_]*\s*\(|[()]|(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9]|,[0-9])"
)


class ExpressionFault(Exception):
    """The expression cannot be understood or has no value. The text says why."""


def _spread(function: Callable[..., Number]) -> Callable[[list[Any]], Number]:
    return lambda parts: function(*parts)


def _percent(share: Number) -> Number:
    return number.divide(share, Number(Fraction(100)))


def _constant(name: str) -> Number:
    try:
        return _CONSTANTS[name.lower()]
    except KeyError:
        raise ExpressionFault(_unknown("constant", name, _CONSTANTS)) from None


def _call(name: str, *arguments: Number | None) -> Number:
    # Without arguments the parser gives one None.
    given = [each for each in arguments if each is not None]
    if name.lower() not in _FUNCTIONS:
        raise ExpressionFault(_unknown("function", name, _FUNCTIONS))
    function, least, most = _FUNCTIONS[name.lower()]
    if not least <= len(given) <= most:
        takes = f"{least}" if least == most else f"{least} to {most}"
        if most == MAX_CHARACTERS:
            takes = f"at least {least}"
        raise ExpressionFault(
            f"{name} takes {takes} argument{'s' if most > 1 else ''}, not {len(given)}."
            " Within a function commas separate arguments, never thousands."
        )
    return function(*given)


# What each rule of the grammar computes. The parser does so while it reads, so
# that no chain of operators is too deep.
_RULES: Final = SimpleNamespace(
    add=_spread(number.add),
    subtract=_spread(number.subtract),
    multiply=_spread(number.multiply),
    divide=_spread(number.divide),
    modulo=_spread(number.modulo),
    negate=_spread(number.negate),
    power=_spread(number.power),
    percent=_spread(_percent),
    number=_spread(number.literal),
    constant=_spread(_constant),
    call=_spread(_call),
)


class Calculator:
    """Computes expressions. Reads its grammar once."""

    def __init__(self) -> None:
        self._parser: Final[Any] = Lark(
            _GRAMMAR.read_text("utf-8"), parser="lalr", transformer=cast(Any, _RULES)
        )

    def evaluate(self, expression: str) -> Number:
        """The value of `expression`; ExpressionFault where it has none.

        What it takes is bounded: by the length of the expression, the depth of
        its parentheses and the digits of every result on the way.
        """
        if len(expression) > MAX_CHARACTERS:
            raise ExpressionFault(
                f"The expression has {len(expression):,} characters;"
                f" {MAX_CHARACTERS:,} are the limit."
            )
        if not expression.strip():
            raise ExpressionFault("The expression is empty.")
        text = _without_thousands(expression)
        try:
            return cast(Number, self._parser.parse(text))
        except NumberFault as error:
            raise ExpressionFault(str(error)) from None
        except UnexpectedInput as error:
            raise ExpressionFault(_misunderstood(error, text)) from None


def _without_thousands(expression: str) -> str:
    """The expression with 2,480 written as 2480, except among the arguments of a function.

    There a comma separates arguments, as everywhere else in mathematics.
    """
    among_arguments = [False]

    def piece(match: re.Match[str]) -> str:
        text = match[0]
        if text == ")":
            if len(among_arguments) > 1:
                among_arguments.pop()
        elif text.endswith("("):
            if len(among_arguments) > MAX_NESTING:
                raise ExpressionFault(f"Parentheses may be nested {MAX_NESTING} deep at most.")
            among_arguments.append(len(text) > 1)
        elif not among_arguments[-1]:
            return text.replace(",", "")
        return text

    return _PIECES.sub(piece, expression)


def _misunderstood(error: UnexpectedInput, text: str) -> str:
    if isinstance(error, UnexpectedEOF) or getattr(error, "token", None) == "":
        return "The expression ends too early: a number or a closing parenthesis is missing."
    position = error.pos_in_stream or 0
    return (
        f"The expression is not understood at character {position + 1}:"
        f" {text[position : position + 20]!r}. Write numbers, + - * / % **, parentheses,"
        f" and {', '.join(_FUNCTIONS)}."
    )


def _unknown(kind: str, name: str, known: Mapping[str, object]) -> str:
    close = get_close_matches(name.lower(), known, n=1)
    guess = f"; did you mean {close[0]}?" if close else "."
    return f"There is no {kind} {name[:40]}{guess} Known are {', '.join(known)}."
