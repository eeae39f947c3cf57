"""What the calculator understands, and what it refuses."""

# Tables of cases have one case a line.
# ruff: noqa: E501

import time
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.tool.expression import Calculator, ExpressionFault

# Busy machines are slow, and that is no fault of what is tested.
_PATIENT = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
_CALCULATOR = Calculator()
# Far above what any expression takes; the slowest is about ten milliseconds.
_SLOW_SECONDS = 1.0


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("17.5% of 2,480", "434"),
        ("2,480 * 17.5%", "434"),
        ("200 + 10%", "200.1"),
        ("10% of 20% of 50", "1"),
        ("2 * 50% OF 10 + 1", "11"),
        ("50% - 3", "-2.5"),
        ("10 % 3", "1"),
        ("-7 % 3", "2"),
        ("7.5 % (1 + 1)", "1.5"),
        ("0.1 + 0.2", "0.3"),
        ("1 / 3 * 3", "1"),
        ("1 / 3", "0.333333333333333333333333333333"),
        ("2 / 3", "0.666666666666666666666666666667"),
        ("-2 ** 2", "-4"),
        ("2 ** -1", "0.5"),
        ("2 ** 3 ** 2", "512"),
        ("2 ^ 10", "1024"),
        ("3 × 4 ÷ 2 − 1", "5"),
        ("8 - 2 - 1", "5"),
        ("--2", "2"),
        ("+3", "3"),
        ("1,234,567.5 * 2", "2469135"),
        ("max(1,200)", "200"),
        ("max((2,480), 3)", "2480"),
        ("min(3, 1, 2)", "1"),
        ("round(2.5)", "3"),
        ("round(-2.5)", "-3"),
        ("round(1/3, 3)", "0.333"),
        ("round(1234, -2)", "1200"),
        ("floor(-1.5) + ceil(1.2)", "0"),
        ("abs(-3)", "3"),
        ("sqrt(1/4)", "0.5"),
        ("sqrt(2)", "1.41421356237309504880168872421"),
        ("sqrt(2) ** 2", "2"),
        ("floor(sqrt(2) ** 2)", "2"),
        ("log(1000)", "3"),
        ("log(8, 2)", "3"),
        ("ln(e)", "1"),
        ("exp(1) - e", "0"),
        ("exp(500)", "1.40359221785283741073977033284e+217"),
        ("exp(-2000)", "2.57653587296114965219015049951e-869"),
        ("pi", "3.14159265358979323846264338328"),
        ("1.0000001 ** 1000000", "1.10517091254979341663838270935"),
        ("0 ** 0", "1"),
        ("(-1) ** 1e18", "1"),
        ("1e3 + 2E-1", "1000.2"),
        (".5 + 5.", "5.5"),
        ("12.0", "12"),
        ("1" * 999, "1" * 999),
        ("-" * 900 + "1", "1"),
        ("(" * 64 + "1" + ")" * 64, "1"),
        ("1\n+\t1", "2"),
    ],
)
def test_expression_has_this_value(expression: str, text: str) -> None:
    """Arithmetic is exact; what has no end is cut to 30 digits."""
    assert _CALCULATOR.evaluate(expression).written().text == text


_HELP = (
    "Write numbers, + - * / % **, parentheses, and"
    " abs, ceil, exp, floor, ln, log, max, min, round, sqrt."
)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "The expression is empty."),
        (" \n", "The expression is empty."),
        ("1" * 1001, "The expression has 1,001 characters; 1,000 are the limit."),
        ("(" * 65 + "1" + ")" * 65, "Parentheses may be nested 64 deep at most."),
        ("1 / 0", "Division by zero."),
        ("1 % (2 - 2)", "Remainder of a division by zero."),
        ("0 ** -1", "Division by zero: 0 to a negative power."),
        ("9 ** 9 ** 9", "A result has more than 1,000 digits."),
        ("10 ** 1000", "A result has more than 1,000 digits."),
        ("1e1001", "1e1001 has more than 1,000 digits."),
        ("1e999 * 10", "A result has more than 1,000 digits."),
        ("1e-999 / 100", "A result is closer to zero than 1,000 decimals can say."),
        ("exp(2304)", "A result has more than 1,000 digits."),
        ("2 ** 1e10", "An exponent may be at most 1,000,000,000."),
        ("(-8) ** (1/3)", "A negative number to a fractional power is not a real number."),
        ("sqrt(-1)", "The square root of a negative number is not a real number."),
        ("ln(0)", "The logarithm of zero or of a negative number is not a real number."),
        ("log(2, 1)", "Division by zero."),
        ("round(1, 0.5)", "The decimals to round to must be a whole number from -1000 to 1000."),
        ("(2 + 3", "The expression ends too early: a number or a closing parenthesis is missing."),
        ("2 *", "The expression ends too early: a number or a closing parenthesis is missing."),
        ("2 3", f"The expression is not understood at character 3: '3'. {_HELP}"),
        ("3 of 4", f"The expression is not understood at character 3: 'of 4'. {_HELP}"),
        ("1,2345", f"The expression is not understood at character 2: ',2345'. {_HELP}"),
        ("12,34", f"The expression is not understood at character 3: ',34'. {_HELP}"),
        ("__import__('os')", f'The expression is not understood at character 1: "__import__(\'os\')". {_HELP}'),
        ("1 + ٣", f"The expression is not understood at character 5: '٣'. {_HELP}"),
        ("sqrt(2,480)", "sqrt takes 1 argument, not 2. Within a function commas separate arguments, never thousands."),
        ("log()", "log takes 1 to 2 arguments, not 0. Within a function commas separate arguments, never thousands."),
        ("sqr(4)", "There is no function sqr; did you mean sqrt? Known are abs, ceil, exp, floor, ln, log, max, min, round, sqrt."),
        ("pie", "There is no constant pie; did you mean pi? Known are pi, e."),
        ("zzz", "There is no constant zzz. Known are pi, e."),
    ],
)  # fmt: skip
def test_expression_is_refused_in_a_sentence(expression: str, message: str) -> None:
    """What has no value, is too large or is not understood is told quickly and clearly."""
    started = time.process_time()
    with pytest.raises(ExpressionFault) as caught:
        _CALCULATOR.evaluate(expression)
    assert str(caught.value) == message
    assert time.process_time() - started < _SLOW_SECONDS


# An expression and its exact value; None where it divides by zero on the way.
_Case = tuple[str, Fraction | None]


def _literal(units: int, decimals: int, separators: bool) -> _Case:
    value = Fraction(units, 10**decimals)
    whole, rest = divmod(units, 10**decimals)
    text = f"{whole:,}" if separators else str(whole)
    return (f"{text}.{rest:0{decimals}d}" if decimals else text), value


_literals = st.builds(_literal, st.integers(0, 10**7), st.integers(0, 4), st.booleans())


def _binary(operator: str, left: _Case, right: _Case) -> _Case:
    text = f"({left[0]}) {operator} ({right[0]})"
    a, b = left[1], right[1]
    if a is None or b is None or (operator in "/%" and not b):
        return text, None
    values = {"+": a + b, "-": a - b, "*": a * b}
    if operator in values:
        return text, values[operator]
    return text, a / b if operator == "/" else a % b


def _power(base: _Case, exponent: int) -> _Case:
    text = f"({base[0]}) ** {exponent}"
    if base[1] is None or (not base[1] and exponent < 0):
        return text, None
    return text, base[1] ** exponent


_cases = st.recursive(
    _literals,
    lambda inner: st.one_of(
        st.builds(_binary, st.sampled_from("+-*/%"), inner, inner),
        st.builds(_power, inner, st.integers(-3, 3)),
        inner.map(lambda case: (f"-({case[0]})", None if case[1] is None else -case[1])),
        inner.map(lambda case: (f"({case[0]})%", None if case[1] is None else case[1] / 100)),
        inner.map(
            lambda case: (
                f"abs({case[0]})".replace(",", ""),
                None if case[1] is None else abs(case[1]),
            )
        ),
    ),
    max_leaves=8,
)


@_PATIENT
@given(_cases)
def test_arithmetic_agrees_with_fractions(case: _Case) -> None:
    """Any expression has exactly the value that Python's fractions give it, or divides by zero."""
    expression, expected = case
    if len(expression) > 1000:
        return
    try:
        got = _CALCULATOR.evaluate(expression)
    except ExpressionFault as fault:
        told = str(fault)
        by_zero = "zero" in told and expected is None
        assert by_zero or told == "A result has more than 1,000 digits."
        return
    assert expected is not None
    if got.exact:
        assert got.value == expected
    else:
        assert abs(got.value - expected) <= abs(expected) / 10**50


@_PATIENT
@given(st.fractions(max_denominator=10**6))
def test_written_value_is_the_value(value: Fraction) -> None:
    """What is written in full is the value; what is cut is off by less than its last digit."""
    written = _CALCULATOR.evaluate(f"({value.numerator}) / {value.denominator}").written()
    if written.exact:
        assert Fraction(written.text) == value
    else:
        assert abs(Fraction(written.text) - value) <= abs(value) / 10**29


@_PATIENT
@given(st.decimals(-(10**12), 10**12, places=6), st.integers(-6, 6))
def test_rounding_is_half_away_from_zero(value: Decimal, places: int) -> None:
    """round() agrees with the decimal module's ROUND_HALF_UP."""
    text = f"{value:f}"
    expected = Fraction(value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, Context(prec=50)))
    assert _CALCULATOR.evaluate(f"round({text}, {places})").value == expected


@_PATIENT
@given(st.decimals("0.000001", 10**12, places=6))
def test_functions_agree_with_decimal(value: Decimal) -> None:
    """Roots, logarithms and exponentials are those of the decimal module to 29 digits."""
    context = Context(prec=70)
    for name, expected in (
        ("sqrt", context.sqrt(value)),
        ("ln", context.ln(value)),
        ("log", context.log10(value)),
    ):
        got = _CALCULATOR.evaluate(f"{name}({value:f})").value
        assert abs(got - Fraction(expected)) <= abs(Fraction(expected)) / 10**29


@_PATIENT
@given(
    st.one_of(
        st.text(max_size=1200),
        st.text("0123456789+-*/%^().,eE absqrtlogexminofpi\n", max_size=1001),
        st.lists(
            st.sampled_from(["9", "2,480", "**", "%", " of ", "(", ")", "-", "exp(", "log(", "/", "+", "1e99", ",", "pi"]),
            max_size=80,
        ).map("".join),
    )
)  # fmt: skip
def test_arbitrary_text_gives_a_number_or_a_sentence(text: str) -> None:
    """Whatever is asked, the answer comes quickly, and is a value or an ExpressionFault."""
    started = time.process_time()
    try:
        told = _CALCULATOR.evaluate(text).written().text
    except ExpressionFault as fault:
        told = str(fault)
    assert 1 <= len(told) <= 2100
    assert time.process_time() - started < _SLOW_SECONDS
