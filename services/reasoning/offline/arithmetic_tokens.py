"""Reads numbers, operators and the words for both out of a sentence."""

import re
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import Final

# More than anybody calculates with in a sentence; a bound for hostile input.
_MOST_TOKENS: Final = 200
_MOST_DIGITS: Final = 40

_LEXEME: Final = re.compile(
    r"""
    (?P<noise>\d{4}-\d{1,2}-\d{1,2}|\d{1,2}:\d{2}(?::\d{2})?|\d+(?:\.\d+){2,}   # dates, versions
      |\d{1,2}/\d{1,2}/\d{2,4}
      |\d[\d.,]*(?![xX]\s*\d)[^\W\d]\w*)                                        # 3rd, 5kg
    |(?P<number>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)
    |(?P<symbol>\*\*|[-+*/×÷·−√^()%,])
    |(?P<letter>[xX](?=\s*[\d(]))
    |(?P<word>[^\W\d_][\w'’]*(?:-\w+)*)
    |(?P<currency>[$€£¥])
    |(?P<other>\S)
    """,
    re.VERBOSE,
)


class Sign(Enum):
    """What a token does in an expression."""

    NUMBER = "number"
    ADD = "+"
    SUBTRACT = "-"
    MULTIPLY = "*"
    DIVIDE = "/"
    POWER = "**"
    PERCENT = "%"
    OPEN = "("
    CLOSE = ")"
    SQUARED = "squared"
    CUBED = "cubed"
    ROOT = "square root"
    CUBE_ROOT = "cube root"
    # Fractions and multiples in words carry their factor: "half of", "twice".
    FACTOR = "factor"
    SUM = "sum of"
    PRODUCT = "product of"
    DIFFERENCE = "difference between"
    AVERAGE = "average of"
    # "Add 2 to 3", "multiply 2 by 3", "increase 2 by 3%".
    ADD_TO = "add"
    SUBTRACT_FROM = "subtract"
    MULTIPLY_BY = "multiply"
    DIVIDE_BY = "divide"
    INCREASE = "increase"
    DECREASE = "decrease"
    # "What percentage of 80 is 20", "20 is what percentage of 80".
    WHAT_PERCENT = "what percent of"
    IS_WHAT_PERCENT = "is what percent of"
    # Words that join operands.
    OF = "of"
    OFF = "off"
    COMMA = ","
    AND = "and"
    TO = "to"
    FROM = "from"
    BY = "by"
    IS = "is"
    # Anything else.
    NOISE = "noise"


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a sentence with its place in it."""

    sign: Sign
    start: int
    end: int
    # Of numbers and factors.
    value: Decimal = Decimal(0)
    # False for operators that also mean other things: "24/7", "pages 3-5", "over".
    plain: bool = True


_SYMBOLS: Final = {
    "+": Sign.ADD,
    "-": Sign.SUBTRACT,
    "−": Sign.SUBTRACT,
    "*": Sign.MULTIPLY,
    "×": Sign.MULTIPLY,
    "·": Sign.MULTIPLY,
    "/": Sign.DIVIDE,
    "÷": Sign.DIVIDE,
    "^": Sign.POWER,
    "**": Sign.POWER,
    "%": Sign.PERCENT,
    "√": Sign.ROOT,
    "(": Sign.OPEN,
    ")": Sign.CLOSE,
    ",": Sign.COMMA,
}
_AMBIGUOUS: Final = frozenset(["-", "/", "over", "less"])

_PHRASES: Final[dict[tuple[str, ...], Sign]] = {
    tuple(phrase.split()): sign
    for sign, phrases in {
        Sign.ADD: ("plus", "added to", "increased by"),
        Sign.SUBTRACT: ("minus", "less", "take away", "decreased by", "reduced by"),
        Sign.MULTIPLY: ("times", "multiplied by", "multiplied with"),
        Sign.DIVIDE: ("divided by", "over"),
        Sign.POWER: (
            "to power of", "to power", "raised to", "raised to power of", "raised to power",
        ),
        Sign.PERCENT: ("percent", "per cent"),
        Sign.SQUARED: ("squared",),
        Sign.CUBED: ("cubed",),
        Sign.ROOT: ("square root of", "square root", "sqrt of", "sqrt"),
        Sign.CUBE_ROOT: ("cube root of", "cube root"),
        Sign.SUM: ("sum of", "total of"),
        Sign.PRODUCT: ("product of",),
        Sign.DIFFERENCE: ("difference between", "difference of"),
        Sign.AVERAGE: ("average of", "mean of"),
        Sign.ADD_TO: ("add",),
        Sign.SUBTRACT_FROM: ("subtract",),
        Sign.MULTIPLY_BY: ("multiply",),
        Sign.DIVIDE_BY: ("divide",),
        Sign.INCREASE: ("increase", "raise"),
        Sign.DECREASE: ("decrease", "reduce"),
        Sign.WHAT_PERCENT: ("what percent of", "what percentage of"),
        Sign.IS_WHAT_PERCENT: ("is what percent of", "is what percentage of"),
        Sign.OF: ("of",),
        Sign.OFF: ("off",),
        Sign.AND: ("and", "with"),
        Sign.TO: ("to",),
        Sign.FROM: ("from",),
        Sign.BY: ("by",),
        Sign.IS: ("is",),
    }.items()
    for phrase in phrases
}  # fmt: skip
_LONGEST_PHRASE: Final = max(map(len, _PHRASES))
_FACTORS: Final[dict[tuple[str, ...], Decimal]] = {
    ("half", "of"): Decimal("0.5"),
    ("half",): Decimal("0.5"),
    ("quarter", "of"): Decimal("0.25"),
    ("three", "quarters", "of"): Decimal("0.75"),
    ("twice",): Decimal(2),
    ("double",): Decimal(2),
    ("triple",): Decimal(3),
}
_ARTICLES: Final = frozenset(["the", "a", "an"])

_UNITS_TEXT: Final = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen
"""
_TENS_TEXT: Final = "twenty thirty forty fifty sixty seventy eighty ninety"
_UNITS: Final = {word: number for number, word in enumerate(_UNITS_TEXT.split())}
_TENS: Final = {word: 10 * number for number, word in enumerate(_TENS_TEXT.split(), start=2)}
_SCALES: Final = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
NUMBER_WORDS: Final = frozenset([*_UNITS, *_TENS, *_SCALES, "half", "twice", "double", "triple"])


@dataclass(frozen=True, slots=True)
class _Lexeme:
    kind: str
    text: str
    start: int
    end: int


def tokens(text: str) -> list[Token]:
    """The tokens of `text`. Articles are left out, so that they part nothing."""
    lexemes = [
        _Lexeme(match.lastgroup or "", match[0].lower(), match.start(), match.end())
        for match in islice(_LEXEME.finditer(text), _MOST_TOKENS)
        if match.lastgroup != "currency" and match[0].lower() not in _ARTICLES
    ]
    found: list[Token] = []
    position = 0
    while position < len(lexemes):
        token, taken = _read(lexemes, position)
        found.append(token)
        position += taken
    return found


def _read(lexemes: list[_Lexeme], position: int) -> tuple[Token, int]:
    """The token that begins at `position`, and how many lexemes it takes."""
    first = lexemes[position]
    if first.kind == "number":
        return _number(lexemes, position)
    if first.kind == "symbol":
        plain = first.text not in _AMBIGUOUS
        return Token(_SYMBOLS[first.text], first.start, first.end, plain=plain), 1
    if first.kind == "letter":
        return Token(Sign.MULTIPLY, first.start, first.end), 1
    if first.kind == "word":
        return _word(lexemes, position)
    return Token(Sign.NOISE, first.start, first.end), 1


def _number(lexemes: list[_Lexeme], position: int) -> tuple[Token, int]:
    first = lexemes[position]
    if len(first.text) > _MOST_DIGITS:
        return Token(Sign.NOISE, first.start, first.end), 1
    value = Decimal(first.text.replace(",", ""))
    following = lexemes[position + 1] if position + 1 < len(lexemes) else None
    if following is not None and following.text in _SCALES:
        return Token(Sign.NUMBER, first.start, following.end, value * _SCALES[following.text]), 2
    return Token(Sign.NUMBER, first.start, first.end, value), 1


def _word(lexemes: list[_Lexeme], position: int) -> tuple[Token, int]:
    first = lexemes[position]
    ahead = [each.text for each in lexemes[position : position + _LONGEST_PHRASE]]
    for length in range(len(ahead), 0, -1):
        phrase = tuple(ahead[:length])
        last = lexemes[position + length - 1]
        if phrase in _FACTORS:
            return Token(Sign.FACTOR, first.start, last.end, _FACTORS[phrase]), length
        if phrase in _PHRASES:
            plain = phrase[0] not in _AMBIGUOUS
            return Token(_PHRASES[phrase], first.start, last.end, plain=plain), length
    return _number_in_words(lexemes, position) or (Token(Sign.NOISE, first.start, first.end), 1)


def _number_in_words(lexemes: list[_Lexeme], position: int) -> tuple[Token, int] | None:
    """The number that "two thousand five hundred and twenty-one" writes."""
    total = group = 0
    taken = 0
    joined = False
    for offset, lexeme in enumerate(lexemes[position:]):
        if lexeme.text == "and" and group >= 100 and not joined:
            joined = True
            continue
        value = _value(lexeme.text)
        if lexeme.text in _SCALES and taken:
            scale = _SCALES[lexeme.text]
            if scale == 100:
                group = max(group, 1) * scale
            else:
                total, group = total + max(group, 1) * scale, 0
        elif value is not None and _fits(group, value):
            group += value
        else:
            break
        taken, joined = offset + 1, False
    if not taken:
        return None
    start, end = lexemes[position].start, lexemes[position + taken - 1].end
    return Token(Sign.NUMBER, start, end, Decimal(total + group)), taken


def _value(word: str) -> int | None:
    tens, hyphen, unit = word.partition("-")
    if hyphen:
        return (
            _TENS[tens] + _UNITS[unit] if tens in _TENS and 0 < _UNITS.get(unit, 0) < 10 else None
        )
    return _UNITS.get(word, _TENS.get(word))


def _fits(group: int, value: int) -> bool:
    """Whether a number in words goes on: "twenty five" does, "five six" does not."""
    if group == 0:
        return True
    if group % 100 == 0:
        return value > 0
    return group % 100 >= 20 and group % 10 == 0 and 0 < value < 10
