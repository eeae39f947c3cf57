"""Exact numbers with limits: fractions, and 60 digits where a result has no exact form."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from fractions import Fraction
from typing import Final

MAX_DIGITS: Final = 1000
# Digits that inexact results are computed with, and those of them that are shown.
_WORKING_DIGITS: Final = 60
_SHOWN_DIGITS: Final = 30
# What is smaller than this share of the operands is not a result, but an error.
_NOISE: Final = Fraction(1, 10**50)
# A power that is larger is computed with that precision instead of exactly.
_EXACT_POWER_BITS: Final = 8192
_TOO_LARGE: Final = Fraction(10**MAX_DIGITS)
_TOO_SMALL: Final = 1 / _TOO_LARGE
# A number of fewer bits than this, before the point or after it, is within both.
_SAFE_BITS: Final = 3300
_LARGEST_EXPONENT: Final = 10**9
# e to this power has as many digits as there may be.
_LARGEST_EXP: Final = Fraction(2303)
# Inexact results outside of these are written with an exponent.
_PLAIN_EXPONENTS: Final = range(-8, 31)

_CONTEXT: Final = Context(
    prec=_WORKING_DIGITS,
    Emax=10**6,
    Emin=-(10**6),
    traps=[InvalidOperation, DivisionByZero, Overflow],
)


class NumberFault(Exception):
    """There is no such number, or it is out of bounds. The text says which."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number, and whether it is exactly that."""

    value: Fraction
    exact: bool = True

    def written(self) -> "Written":
        """In full where it ends within the limit; else the first 30 digits."""
        plain = _plain(self.value) if self.exact else None
        if plain is not None:
            return Written(plain, exact=True)
        return Written(_cut(_to_decimal(self.value, _SHOWN_DIGITS)), exact=False)


@dataclass(frozen=True, slots=True)
class Written:
    """A number in digits, and whether these are all of them."""

    text: str
    exact: bool


def literal(text: str) -> Number:
    """The number that `text` writes: digits, a point, an exponent."""
    mantissa, _, exponent = text.lower().partition("e")
    if exponent and abs(int(exponent)) > MAX_DIGITS:
        raise NumberFault(f"{text} has more than {MAX_DIGITS:,} digits.")
    return _bounded(Fraction(mantissa) * Fraction(10) ** int(exponent or 0))


def constant(decimal: Decimal) -> Number:
    """A number of which only the first digits are known."""
    return Number(Fraction(decimal), exact=False)


def add(a: Number, b: Number) -> Number:
    """The sum."""
    return _bounded(_without_noise(a.value + b.value, a, b), a, b)


def subtract(a: Number, b: Number) -> Number:
    """The difference."""
    return add(a, negate(b))


def multiply(a: Number, b: Number) -> Number:
    """The product."""
    return _bounded(a.value * b.value, a, b)


def divide(a: Number, b: Number) -> Number:
    """The quotient."""
    if not b.value:
        raise NumberFault("Division by zero.")
    return _bounded(a.value / b.value, a, b)


def modulo(a: Number, b: Number) -> Number:
    """The remainder, with the sign of the divisor."""
    if not b.value:
        raise NumberFault("Remainder of a division by zero.")
    return _bounded(a.value % b.value, a, b)


def negate(a: Number) -> Number:
    """The number with the other sign."""
    return Number(-a.value, a.exact)


def absolute(a: Number) -> Number:
    """The number without its sign."""
    return Number(abs(a.value), a.exact)


def power(base: Number, exponent: Number) -> Number:
    """`base` to the `exponent`: exact for moderate whole exponents. 0 to the 0 is 1."""
    b, e = base.value, exponent.value
    if not b and e < 0:
        raise NumberFault("Division by zero: 0 to a negative power.")
    if not b or b == 1 or not e:
        return Number(Fraction(b if e else 1), base.exact and exponent.exact)
    if b < 0 and e.denominator != 1:
        raise NumberFault("A negative number to a fractional power is not a real number.")
    if abs(e) > _LARGEST_EXPONENT:
        if b == -1:
            return Number(Fraction(-1 if e % 2 else 1), base.exact and exponent.exact)
        raise NumberFault(f"An exponent may be at most {_LARGEST_EXPONENT:,}.")
    # Estimated before anything is computed: 9 ** 9 ** 9 has 370 million digits.
    digits = float(e) * _log10(abs(b))
    if abs(digits) > MAX_DIGITS + 1:
        raise _out_of_bounds(large=digits > 0)
    bits = max(b.numerator.bit_length(), b.denominator.bit_length())
    if e.denominator == 1 and abs(e) * bits <= _EXACT_POWER_BITS:
        return _bounded(b ** int(e), base, exponent)
    return _inexact(lambda: _CONTEXT.power(_to_decimal(b), _to_decimal(e)))


def square_root(a: Number) -> Number:
    """The square root: exact where it is a fraction."""
    if a.value < 0:
        raise NumberFault("The square root of a negative number is not a real number.")
    root = Fraction(math.isqrt(a.value.numerator), math.isqrt(a.value.denominator))
    if root * root == a.value:
        return Number(root, a.exact)
    return _inexact(lambda: _CONTEXT.sqrt(_to_decimal(a.value)))


def natural_logarithm(a: Number) -> Number:
    """The logarithm to the base e."""
    _check_logarithm(a)
    return _inexact(lambda: _CONTEXT.ln(_to_decimal(a.value)))


def logarithm(a: Number, base: Number | None = None) -> Number:
    """The logarithm to the base 10, or to another."""
    _check_logarithm(a)
    if base is None:
        return _inexact(lambda: _CONTEXT.log10(_to_decimal(a.value)))
    _check_logarithm(base)
    return divide(natural_logarithm(a), natural_logarithm(base))


def exponential(a: Number) -> Number:
    """e to the power of `a`."""
    if abs(a.value) > _LARGEST_EXP:
        raise _out_of_bounds(large=a.value > 0)
    return _inexact(lambda: _CONTEXT.exp(_to_decimal(a.value)))


def floor(a: Number) -> Number:
    """The largest whole number that is not above."""
    return Number(Fraction(math.floor(_settled(a))), a.exact)


def ceiling(a: Number) -> Number:
    """The smallest whole number that is not below."""
    return Number(Fraction(math.ceil(_settled(a))), a.exact)


def rounded(a: Number, decimals: Number | None = None) -> Number:
    """Rounded to that many decimals, 0 if not given; halves away from zero."""
    places = decimals.value if decimals else Fraction(0)
    if places.denominator != 1 or abs(places) > MAX_DIGITS:
        raise NumberFault(
            f"The decimals to round to must be a whole number from -{MAX_DIGITS} to {MAX_DIGITS}."
        )
    unit = Fraction(10) ** int(places)
    value = _settled(a)
    whole = math.floor(abs(value) * unit + Fraction(1, 2))
    # What was rounded is what it was rounded to, whatever was before.
    return _bounded(Fraction(whole if value >= 0 else -whole) / unit)


def _without_noise(total: Fraction, a: Number, b: Number) -> Fraction:
    """0 where two numbers cancel out but for the digits that are not known: exp(1) - e."""
    known = max(abs(a.value), abs(b.value)) * _NOISE
    return Fraction(0) if not (a.exact and b.exact) and abs(total) < known else total


def _check_logarithm(a: Number) -> None:
    if a.value <= 0:
        raise NumberFault("The logarithm of zero or of a negative number is not a real number.")


def _settled(a: Number) -> Fraction:
    """Without the last digits of what is inexact, so that the floor of sqrt(2) ** 2 is 2."""
    return a.value if a.exact else Fraction(_to_decimal(a.value, _SHOWN_DIGITS))


def _inexact(compute: Callable[[], Decimal]) -> Number:
    try:
        value = Fraction(compute())
    except (InvalidOperation, DivisionByZero, Overflow) as error:
        raise _out_of_bounds(large=True) from error
    return Number(_bounded(value).value, exact=False)


def _bounded(value: Fraction, *origins: Number) -> Number:
    """`value` as a number, as exact as its origins; NumberFault where it is out of bounds."""
    # The difference in bits says enough, except near the bounds.
    bits = value.numerator.bit_length() - value.denominator.bit_length()
    if abs(bits) >= _SAFE_BITS and value:
        size = abs(value)
        if size >= _TOO_LARGE:
            raise _out_of_bounds(large=True)
        if size < _TOO_SMALL:
            raise _out_of_bounds(large=False)
    exact = all(each.exact for each in origins)
    if value.denominator.bit_length() > _EXACT_POWER_BITS or not exact:
        # Keeps the digits from growing with every step.
        return Number(Fraction(_to_decimal(value)), exact=False)
    return Number(value)


def _out_of_bounds(*, large: bool) -> NumberFault:
    if large:
        return NumberFault(f"A result has more than {MAX_DIGITS:,} digits.")
    return NumberFault(f"A result is closer to zero than {MAX_DIGITS:,} decimals can say.")


def _log10(value: Fraction) -> float:
    # The logarithms of the parts, since the parts may be too large for a float.
    return math.log10(value.numerator) - math.log10(value.denominator)


def _to_decimal(value: Fraction, digits: int = _WORKING_DIGITS) -> Decimal:
    context = _CONTEXT if digits == _WORKING_DIGITS else Context(digits, Emax=10**6, Emin=-(10**6))
    return context.divide(Decimal(value.numerator), Decimal(value.denominator))


def _plain(value: Fraction) -> str | None:
    """All digits of `value`, if they end, within the limit."""
    rest, decimals = value.denominator, 0
    for prime in (2, 5):
        count = 0
        while rest % prime == 0:
            rest //= prime
            count += 1
        decimals = max(decimals, count)
    if rest != 1 or decimals > MAX_DIGITS:
        return None
    if not decimals:
        return str(value.numerator)
    whole, fraction = divmod(abs(value.numerator) * 10**decimals // value.denominator, 10**decimals)
    sign = "-" if value < 0 else ""
    return f"{sign}{whole}.{fraction:0{decimals}d}"


def _cut(value: Decimal) -> str:
    if value == 0:
        return "0"
    if value.adjusted() in _PLAIN_EXPONENTS:
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    digits = "".join(map(str, value.as_tuple().digits)).rstrip("0")
    point = "." if len(digits) > 1 else ""
    return f"{'-' if value < 0 else ''}{digits[0]}{point}{digits[1:]}e{value.adjusted():+d}"
