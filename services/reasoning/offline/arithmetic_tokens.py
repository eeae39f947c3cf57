"""Reads numbers, operators and the words for both out of a sentence."""

import re
from collections.abc import Iterator
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
    (?P<unread>\d{4}-\d{1,2}-\d{1,2}|\d{1,2}:\d{2}(?::\d{2})?|\d+(?:\.\d+){2,}   # dates, versions
      |\d{1,2}/\d{1,2}/\d{2,4}
      |0[xXbBoO][0-9a-fA-F]\w*                                                  # 0x10
      |(?<=\d)\.(?=\s+\d)                                                      # 12. 5
      |[—–](?=\s*[\d(√])                                                        # a dash, or minus
      |\d[\d.,]*(?![xX]\s*\d)[^\W\d]\w*)                                        # 3rd, 5kg
    |(?P<number>(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?![.,'’]?\d))
    |(?P<run>\d[\d.,'’]*\d)                                                    # 1,5 or 1'500
    |(?P<symbol>\*\*|[-+*/×÷·−√^()%,])
    |(?P<letter>[xX](?=\s*[\d(]))
    |(?P<word>[^\W\d_][\w'’]*(?:-\w+)*)
    |(?P<currency>[$€£¥])
    |(?P<other>\S)
    """,
    re.VERBOSE,
)


# Written without spaces, a list is told from a decimal comma and from thousands by its length.
_TIGHT_LIST: Final = re.compile(r"(?!.*\b\d{3}\b)\d+(?:,\d+){2,}")


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
    # A number, or a part of one, whose value is not known: "1,5", "5kg", "two thirds".
    UNREAD = "unread"
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
_DIGITS: Final = {
    **{word: str(number) for word, number in _UNITS.items() if number < 10},
    "oh": "0",
    "o": "0",
}
# Words that say something about the number beside them that is not understood here.
_UNREAD_TEXT: Final = """
    point dot comma negative nought naught nil dozen dozens hundreds thousands millions billions
    trillion trillions k bn mn mio lakh crore quarter quarters third thirds fourth fourths fifth
    fifths sixth sixths seventh sevenths eighth eighths ninth ninths tenth tenths hundredth
    hundredths thousandth thousandths square cube factorial log logarithm mod modulo
"""
_UNREAD: Final = frozenset(_UNREAD_TEXT.split())


@dataclass(frozen=True, slots=True)
class _Lexeme:
    kind: str
    text: str
    start: int
    end: int


def tokens(text: str) -> list[Token]:
    """The tokens of `text`. Articles are left out, so that they part nothing."""
    lexemes = list(islice(_lexemes(text), _MOST_TOKENS + 1))
    found: list[Token] = []
    position = 0
    while position < min(len(lexemes), _MOST_TOKENS):
        token, taken = _read(lexemes, position)
        if found and found[-1].sign is Sign.NUMBER and lexemes[position].text in ("oh", "o"):
            # "Twelve oh five" is one number; elsewhere "oh" is only an exclamation.
            token = Token(Sign.UNREAD, token.start, token.end)
        found.append(token)
        position += taken
    if len(lexemes) > _MOST_TOKENS:
        # What was cut off may be the rest of a calculation.
        found.append(Token(Sign.UNREAD, lexemes[-1].start, lexemes[-1].end))
    return found


def _lexemes(text: str) -> Iterator[_Lexeme]:
    for match in _LEXEME.finditer(text):
        kind, written, start = match.lastgroup or "", match[0].lower(), match.start()
        if kind == "currency" or written in _ARTICLES:
            continue
        if kind == "run" and _TIGHT_LIST.fullmatch(written):
            for part in re.finditer(r"\d+|,", written):
                part_kind = "symbol" if part[0] == "," else "number"
                yield _Lexeme(part_kind, part[0], start + part.start(), start + part.end())
        else:
            yield _Lexeme(kind, written, start, match.end())


def _read(lexemes: list[_Lexeme], position: int) -> tuple[Token, int]:
    """The token that begins at `position`, and how many lexemes it takes."""
    first = lexemes[position]
    if first.kind == "number":
        return _number(lexemes, position)
    if first.kind == "symbol":
        if first.text == "-" and _is_dash(lexemes, position):
            return Token(Sign.UNREAD, first.start, first.end), 1
        plain = first.text not in _AMBIGUOUS
        return Token(_SYMBOLS[first.text], first.start, first.end, plain=plain), 1
    if first.kind == "letter":
        return Token(Sign.MULTIPLY, first.start, first.end), 1
    if first.kind == "word":
        return _word(lexemes, position)
    sign = Sign.UNREAD if first.kind in ("unread", "run") else Sign.NOISE
    return Token(sign, first.start, first.end), 1


def _is_dash(lexemes: list[_Lexeme], position: int) -> bool:
    """Whether a hyphen stands between gaps after a word: "the total - 5 + 3"."""
    if position == 0 or position + 1 >= len(lexemes):
        return False
    before, sign, after = lexemes[position - 1 : position + 2]
    if before.kind != "word" or before.end == sign.start or sign.end == after.start:
        return False
    return not _says_a_number(before.text) and (before.text,) not in _PHRASES


def _number(lexemes: list[_Lexeme], position: int) -> tuple[Token, int]:
    first = lexemes[position]
    if len(first.text) > _MOST_DIGITS:
        return Token(Sign.UNREAD, first.start, first.end), 1
    return _with_point(lexemes, position, 1, first.text.replace(",", ""))


def _with_point(
    lexemes: list[_Lexeme], position: int, taken: int, number: str
) -> tuple[Token, int]:
    """`number`, which `taken` lexemes write, with the decimals and the scale after it.

    "Twelve point oh five", "1.5 million", "one point five million".
    """
    if "." not in number:
        decimals, more = _decimals(lexemes, position + taken)
        number, taken = number + decimals, taken + more
    value = Decimal(number)
    following = position + taken
    if following < len(lexemes) and lexemes[following].text in _SCALES:
        value *= _SCALES[lexemes[following].text]
        taken += 1
    last = lexemes[position + taken - 1]
    return Token(Sign.NUMBER, lexemes[position].start, last.end, value), taken


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
    number = _number_in_words(lexemes, position)
    if number is not None:
        return number
    sign = Sign.UNREAD if _says_a_number(first.text) else Sign.NOISE
    return Token(sign, first.start, first.end), 1


def _says_a_number(word: str) -> bool:
    """Whether an unread word is part of a number: "point", "two-thirds", "½"."""
    return word[0].isnumeric() or not (_UNREAD | NUMBER_WORDS).isdisjoint(word.split("-"))


def _decimals(lexemes: list[_Lexeme], position: int) -> tuple[str, int]:
    """The decimals that "point oh five" writes, with their point, and how many lexemes do."""
    if position + 1 >= len(lexemes) or lexemes[position].text != "point":
        return "", 0
    first = lexemes[position + 1]
    if first.kind == "number" and first.text.isdecimal():
        return f".{first.text}", 2
    digits: list[str] = []
    taken = 1
    for lexeme in islice(lexemes, position + 1, position + 1 + _MOST_DIGITS):
        spelled = lexeme.text.split("-")
        if not all(word in _DIGITS for word in spelled):
            break
        digits.extend(_DIGITS[word] for word in spelled)
        taken += 1
    return ("." + "".join(digits), taken) if digits else ("", 0)


def _number_in_words(lexemes: list[_Lexeme], position: int) -> tuple[Token, int] | None:
    """The number that "two thousand five hundred and twenty-one" writes."""
    total = group = taken = 0
    smallest = max(_SCALES.values()) + 1
    before_and: tuple[int, int] | None = None
    for offset, lexeme in enumerate(islice(lexemes, position, None)):
        goes_on = taken == offset
        if lexeme.text == "and" and goes_on and total + group > 0 and group % 100 == 0:
            before_and = (total + group, taken)
            continue
        value = _value(lexeme.text)
        scale = _SCALES.get(lexeme.text)
        if scale is not None and not taken:
            # "A thousand".
            group = 1
        if scale is not None and goes_on and 0 < group < scale < smallest:
            if scale == 100:
                group *= scale
            else:
                total, group, smallest = total + group * scale, 0, scale
        elif value is not None and _fits(group, value):
            group += value
        else:
            if scale is not None and before_and is not None:
                # "One hundred and two hundred" are two numbers.
                total, taken = before_and
                group = 0
            break
        taken = offset + 1
    if not taken:
        return None
    return _with_point(lexemes, position, taken, str(total + group))


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
