"""Recognises calculations in sentences and writes them as a calculator takes them."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from services.reasoning.offline.arithmetic_tokens import NUMBER_WORDS, Sign, Token, tokens
from services.reasoning.offline.words import words

_DEEPEST: Final = 32

# What may stand around a calculation that is all that is asked.
_FILLER_TEXT: Final = """
    what what's whats is are was the a an of to me please tell give calculate compute
    evaluate solve work out find how much many does do make makes equal equals value result
    answer total sum amount number be would it can you could and i need know using use
    calculator with for get come comes exactly hi hello hey then now so also us just ok
    dollars dollar euros euro eur usd
"""
_FILLER: Final = frozenset(_FILLER_TEXT.split())

# How tightly operators bind.
_SUM_BINDS: Final = 10
_PRODUCT_BINDS: Final = 20
_OF_BINDS: Final = 25
_MINUS_BINDS: Final = 28
_POWER_BINDS: Final = 30
_POSTFIX_BINDS: Final = 40
_TIGHTEST: Final = 50
_INFIX: Final = {
    Sign.ADD: ("+", _SUM_BINDS),
    Sign.SUBTRACT: ("-", _SUM_BINDS),
    Sign.MULTIPLY: ("*", _PRODUCT_BINDS),
    Sign.DIVIDE: ("/", _PRODUCT_BINDS),
}
# Verb, the word before its second operand, operator, whether the operands swap.
_VERBS: Final = {
    Sign.ADD_TO: ((Sign.TO, Sign.AND), "+", False),
    Sign.SUBTRACT_FROM: ((Sign.FROM,), "-", True),
    Sign.MULTIPLY_BY: ((Sign.BY, Sign.AND), "*", False),
    Sign.DIVIDE_BY: ((Sign.BY,), "/", False),
    Sign.INCREASE: ((Sign.BY,), "+", False),
    Sign.DECREASE: ((Sign.BY,), "-", False),
}
_LISTS: Final = {Sign.SUM: "+", Sign.PRODUCT: "*", Sign.DIFFERENCE: "-", Sign.AVERAGE: "+"}
_BEGINS: Final = frozenset(
    [
        Sign.NUMBER, Sign.OPEN, Sign.SUBTRACT, Sign.ROOT, Sign.CUBE_ROOT, Sign.FACTOR,
        Sign.WHAT_PERCENT, *_VERBS, *_LISTS,
    ]
)  # fmt: skip
# What stands beside an expression and was not read as a part of it, though it may be one.
_OPERANDS: Final = frozenset(
    [Sign.NUMBER, Sign.UNREAD, Sign.FACTOR, Sign.PERCENT, Sign.SQUARED, Sign.CUBED]
)
_OPERATORS: Final = frozenset([*_INFIX, Sign.POWER])
_BRACKETS: Final = frozenset([Sign.OPEN, Sign.CLOSE])
_JOINTS: Final = frozenset(
    [Sign.COMMA, Sign.AND, Sign.OF, Sign.OFF, Sign.TO, Sign.FROM, Sign.BY, Sign.IS]
)
_ONE_HUNDRED: Final = Decimal(100)


@dataclass(frozen=True, slots=True)
class Calculation:
    """A calculation that a sentence asks for."""

    # As the sentence says it: `17.5% of 2,480`.
    phrase: str
    # Numbers, + - * / ** ( ) and sqrt(): `0.175 * 2480`.
    expression: str


def find_calculations(clause: str, *, asked: bool) -> list[Calculation]:
    """The calculations in `clause`, in order.

    `asked` says that the clause is a question or a command. Without that a
    calculation is taken only where nothing else is said, as in "2 + 2".

    None are taken where a number or an operator is left over beside one of
    them, as in "1,5 + 2": the rest is not what was meant.
    """
    if not _may_calculate(clause):
        return []
    found: list[Calculation] = []
    leftover: list[str] = []
    plain = True
    read = tokens(clause)
    position = rest = unused = 0
    while position < len(read):
        parsed = _longest(read, position)
        if parsed is None:
            position += 1
            continue
        if _is_cut(read[unused:position], first=not found):
            return []
        start, end = read[position].start, read[parsed.position - 1].end
        found.append(Calculation(clause[start:end], parsed.value.text))
        plain = plain and parsed.plain
        leftover.append(clause[rest:start])
        rest = end
        position = unused = parsed.position
    if found and _touches(read[unused:], Sign.IS):
        return []
    leftover.append(clause[rest:])
    alone = _FILLER.issuperset(words(" ".join(leftover)))
    return found if alone or (asked and plain) else []


@dataclass(frozen=True, slots=True)
class _Value:
    """An expression: its text, how tightly it binds, and what it is."""

    text: str
    binds: int
    # A literal's number, so that percentages of literals become literals.
    literal: Decimal | None = None
    percent: bool = False

    def inside(self, binds: int) -> str:
        """The text as an operand of something that binds so tightly."""
        return self.text if self.binds >= binds else f"({self.text})"


@dataclass(frozen=True, slots=True)
class _Parsed:
    value: _Value
    # Where the next token stands.
    position: int
    # Whether an operator says beyond doubt that this is meant as a calculation.
    plain: bool


class _NoExpression(Exception):
    """The tokens are no expression."""


def _may_calculate(clause: str) -> bool:
    """A quick look: most clauses have neither a digit nor a number word."""
    return any(map(str.isdigit, clause)) or not NUMBER_WORDS.isdisjoint(
        clause.lower().replace("-", " ").split()
    )


def _is_cut(between: list[Token], *, first: bool) -> bool:
    """Whether what stands before an expression, after the last one, belongs to one of them."""
    if _touches(between[::-1]):
        return True
    if first:
        return False
    # Two expressions side by side are a product to some, and two questions to others.
    return _touches(between, Sign.IS) or all(token.sign in _BRACKETS for token in between)


def _touches(beside: list[Token], *apart: Sign) -> bool:
    """Whether an operand or an operator is left over at the near end of `beside`.

    The signs `apart` end an expression: "3 times 4 is 12" is complete.
    """
    joined = False
    for token in beside:
        if token.sign in _BRACKETS:
            continue
        if token.sign in _JOINTS and token.sign not in apart:
            joined = True
            continue
        return token.sign in _OPERANDS or (not joined and token.sign in _OPERATORS)
    return False


def _longest(read: list[Token], position: int) -> _Parsed | None:
    """The calculation that begins at `position`, as long as it goes; None without an operator."""
    if read[position].sign not in _BEGINS:
        return None
    parser = _Parser(read, position)
    try:
        value = parser.expression(0, 0)
    except _NoExpression:
        return None
    if not parser.operators:
        return None
    return _Parsed(_fraction(value), parser.position, parser.plain)


class _Parser:
    """Reads one expression by the precedence of its operators."""

    def __init__(self, read: list[Token], position: int) -> None:
        self._read = read
        self.position = position
        self.operators = 0
        self.plain: bool = False

    def expression(self, least: int, depth: int) -> _Value:
        """Everything from here on whose operators bind at least that tightly."""
        if depth > _DEEPEST:
            raise _NoExpression
        left = self._operand(depth)
        while True:
            before = (self.position, self.operators, self.plain)
            try:
                extended = self._extend(left, least, depth)
            except _NoExpression:
                # "2 + 2 and ..." ends where it makes no sense any more.
                self.position, self.operators, self.plain = before
                return left
            if extended is None:
                return left
            left = extended

    def _peek(self, ahead: int = 0) -> Sign:
        index = self.position + ahead
        return self._read[index].sign if index < len(self._read) else Sign.NOISE

    def _take(self) -> Token:
        token = self._read[self.position]
        self.position += 1
        return token

    def _operator(self) -> None:
        """Takes an operator and remembers that there is one."""
        self.plain = self._take().plain or self.plain
        self.operators += 1

    def _operand(self, depth: int) -> _Value:
        sign = self._peek()
        if sign is Sign.NUMBER:
            return _literal(self._take().value)
        if sign is Sign.OPEN:
            self.position += 1
            value = _fraction(self.expression(0, depth + 1))
            self._expect(Sign.CLOSE)
            return value
        if sign is Sign.SUBTRACT:
            self.position += 1
            value = _fraction(self.expression(_MINUS_BINDS, depth + 1))
            # Calculators disagree about -4 ** 2; none does about -(4 ** 2).
            return _Value(f"-{value.inside(_TIGHTEST)}", _MINUS_BINDS)
        if sign in (Sign.ROOT, Sign.CUBE_ROOT):
            self._operator()
            value = _fraction(self.expression(_OF_BINDS, depth + 1))
            if sign is Sign.ROOT:
                return _Value(f"sqrt({value.text})", _TIGHTEST)
            return _power(value, _Value("1 / 3", _PRODUCT_BINDS))
        if sign is Sign.FACTOR:
            factor = _literal(self._read[self.position].value)
            self._operator()
            return _binary(
                "*", _PRODUCT_BINDS, factor, _fraction(self.expression(_OF_BINDS, depth + 1))
            )
        if sign is Sign.WHAT_PERCENT:
            self._operator()
            whole = _fraction(self.expression(_SUM_BINDS, depth + 1))
            self._expect(Sign.IS)
            return _percentage(_fraction(self.expression(_SUM_BINDS, depth + 1)), whole)
        if sign in _VERBS:
            return self._verb(sign, depth)
        if sign in _LISTS:
            return self._list(sign, depth)
        raise _NoExpression

    def _extend(self, left: _Value, least: int, depth: int) -> _Value | None:
        """`left` with the operator that follows it; None where none follows."""
        sign = self._peek()
        if sign is Sign.PERCENT and least <= _POSTFIX_BINDS:
            self.position += 1
            return _Value(left.text, left.binds, left.literal, percent=True)
        if sign in (Sign.SQUARED, Sign.CUBED) and least <= _POSTFIX_BINDS:
            self._operator()
            return _power(_fraction(left), _literal(Decimal(2 if sign is Sign.SQUARED else 3)))
        if sign is Sign.POWER and least <= _POWER_BINDS:
            self._operator()
            # The exponent binds to the right: 2 ** 3 ** 2 is 2 ** 9.
            return _power(_fraction(left), _fraction(self.expression(_MINUS_BINDS, depth + 1)))
        if sign is Sign.OF and left.percent and least <= _OF_BINDS:
            self._operator()
            right = _fraction(self.expression(_OF_BINDS + 1, depth + 1))
            return _binary("*", _PRODUCT_BINDS, _fraction(left), right)
        if sign is Sign.OFF and left.percent and least <= _OF_BINDS:
            self._operator()
            return _changed("-", _fraction(self.expression(_OF_BINDS + 1, depth + 1)), left)
        if sign is Sign.IS_WHAT_PERCENT and least == 0:
            self._operator()
            return _percentage(_fraction(left), _fraction(self.expression(_SUM_BINDS, depth + 1)))
        if sign in _INFIX and least <= _INFIX[sign][1]:
            operator, binds = _INFIX[sign]
            self._operator()
            right = self.expression(binds + 1, depth + 1)
            if binds == _SUM_BINDS and right.percent:
                return _changed(operator, _fraction(left), right)
            return _binary(operator, binds, _fraction(left), _fraction(right))
        return None

    def _verb(self, sign: Sign, depth: int) -> _Value:
        """ "Add 2 to 3", "increase 200 by 15%"."""
        joints, operator, swapped = _VERBS[sign]
        self._operator()
        first = self.expression(_SUM_BINDS, depth + 1)
        if self._peek() not in joints:
            raise _NoExpression
        self.position += 1
        second = self.expression(_SUM_BINDS, depth + 1)
        if swapped:
            first, second = second, first
        binds = _SUM_BINDS if operator in "+-" else _PRODUCT_BINDS
        if binds == _SUM_BINDS and second.percent:
            return _changed(operator, _fraction(first), second)
        return _binary(operator, binds, _fraction(first), _fraction(second))

    def _list(self, sign: Sign, depth: int) -> _Value:
        """ "The sum of 1, 2 and 3"."""
        operator = _LISTS[sign]
        self._operator()
        binds = _PRODUCT_BINDS if operator == "*" else _SUM_BINDS
        total = _fraction(self.expression(binds + 1, depth + 1))
        count = 1
        while self._separated():
            item = _fraction(self.expression(binds + 1, depth + 1))
            total = _binary(operator, binds, total, item)
            count += 1
        if count == 1:
            raise _NoExpression
        if sign is Sign.AVERAGE:
            return _binary("/", _PRODUCT_BINDS, total, _literal(Decimal(count)))
        return total

    def _separated(self) -> bool:
        """Takes the comma and the "and" before the next item of a list, where there is one."""
        taken = 1 if self._peek() is Sign.COMMA else 0
        if self._peek(taken) is Sign.AND:
            taken += 1
        if taken and self._peek(taken) in _BEGINS:
            self.position += taken
            return True
        return False

    def _expect(self, sign: Sign) -> None:
        if self._peek() is not sign:
            raise _NoExpression
        self.position += 1


def _literal(number: Decimal) -> _Value:
    return _Value(format(number, "f"), _TIGHTEST, number)


def _fraction(value: _Value) -> _Value:
    """A percentage as the number that it is; anything else as it is."""
    if not value.percent:
        return value
    if value.literal is None:
        return _binary("/", _PRODUCT_BINDS, _Value(value.text, value.binds), _literal(_ONE_HUNDRED))
    sign, digits, exponent = value.literal.as_tuple()
    # By its digits, since a division would round.
    return _literal(Decimal((sign, digits, int(exponent) - 2)))


def _binary(operator: str, binds: int, left: _Value, right: _Value) -> _Value:
    return _Value(f"{left.inside(binds)} {operator} {right.inside(binds + 1)}", binds)


def _power(base: _Value, exponent: _Value) -> _Value:
    return _Value(
        f"{base.inside(_POWER_BINDS + 1)} ** {exponent.inside(_POWER_BINDS)}", _POWER_BINDS
    )


def _changed(operator: str, amount: _Value, percent: _Value) -> _Value:
    """`amount` raised or lowered by a percentage of itself."""
    factor = _binary(operator, _SUM_BINDS, _literal(Decimal(1)), _fraction(percent))
    return _binary("*", _PRODUCT_BINDS, amount, factor)


def _percentage(part: _Value, whole: _Value) -> _Value:
    return _binary(
        "*", _PRODUCT_BINDS, _binary("/", _PRODUCT_BINDS, part, whole), _literal(_ONE_HUNDRED)
    )
