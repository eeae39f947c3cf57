"""Calculations are found in words and symbols, and nothing else is taken for one."""

from decimal import Decimal
from fractions import Fraction
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reasoning.offline.arithmetic import Calculation, find_calculations
from services.reasoning.offline.exact_value import exact_value


@pytest.mark.parametrize(
    ("text", "phrase", "expression"),
    [
        ("What is 17.5% of 2,480", "17.5% of 2,480", "0.175 * 2480"),
        ("what is 3 times 4?", "3 times 4", "3 * 4"),
        ("square root of 16", "square root of 16", "sqrt(16)"),
        (
            "What is the square root of the sum of 9 and 16?",
            "square root of the sum of 9 and 16",
            "sqrt(9 + 16)",
        ),
        ("2+2", "2+2", "2 + 2"),
        ("24/7", "24/7", "24 / 7"),
        ("2 to the power of 10", "2 to the power of 10", "2 ** 10"),
        ("2^3^2", "2^3^2", "2 ** 3 ** 2"),
        ("What's 20% off $1,250.50?", "20% off $1,250.50", "1250.50 * (1 - 0.20)"),
        ("increase 200 by 15%", "increase 200 by 15%", "200 * (1 + 0.15)"),
        ("100 minus 10 percent", "100 minus 10 percent", "100 * (1 - 0.10)"),
        ("half of 90", "half of 90", "0.5 * 90"),
        ("twice 21", "twice 21", "2 * 21"),
        ("average of 1, 2 and 6", "average of 1, 2 and 6", "(1 + 2 + 6) / 3"),
        ("subtract 5 from 12", "subtract 5 from 12", "12 - 5"),
        ("divide 10 by 4", "divide 10 by 4", "10 / 4"),
        ("difference between 10 and 4", "difference between 10 and 4", "10 - 4"),
        ("What percentage of 80 is 20?", "What percentage of 80 is 20", "20 / 80 * 100"),
        ("20 is what percent of 80?", "20 is what percent of 80", "20 / 80 * 100"),
        ("(2 + 3) * -4 ^ 2", "(2 + 3) * -4 ^ 2", "(2 + 3) * -(4 ** 2)"),
        ("1 - (2 - 3) - 4", "1 - (2 - 3) - 4", "1 - (2 - 3) - 4"),
        ("12 squared plus 5 cubed", "12 squared plus 5 cubed", "12 ** 2 + 5 ** 3"),
        ("2x3", "2x3", "2 * 3"),
        ("0 x 10", "0 x 10", "0 * 10"),
        ("-5 + 3", "-5 + 3", "-5 + 3"),
        ("- 5 + 3", "- 5 + 3", "-5 + 3"),
        ("What is -5 + 3?", "-5 + 3", "-5 + 3"),
        ("five - 3", "five - 3", "5 - 3"),
        ("(5 + 5)% of 50", "(5 + 5)% of 50", "(5 + 5) / 100 * 50"),
        ("five minus twenty-one", "five minus twenty-one", "5 - 21"),
        (
            "two hundred and five plus one thousand",
            "two hundred and five plus one thousand",
            "205 + 1000",
        ),
        ("1.5 million divided by 3", "1.5 million divided by 3", "1500000.0 / 3"),
        ("how much is 3 times 4 apples", "3 times 4", "3 * 4"),
        ("Calculate (1+2", "1+2", "1 + 2"),
        (
            "seventeen point five percent of two thousand",
            "seventeen point five percent of two thousand",
            "0.175 * 2000",
        ),
        ("twelve point oh five plus one", "twelve point oh five plus one", "12.05 + 1"),
        ("17 point 5 percent of 2000", "17 point 5 percent of 2000", "0.175 * 2000"),
        ("one point five million / 3", "one point five million / 3", "1500000.0 / 3"),
        ("zero point oh-five times 4", "zero point oh-five times 4", "0.05 * 4"),
        ("two thousand and five plus one", "two thousand and five plus one", "2005 + 1"),
        ("sum of one hundred and two hundred", "sum of one hundred and two hundred", "100 + 200"),
        ("a hundred plus 2", "hundred plus 2", "100 + 2"),
        ("average of 1,2,3", "average of 1,2,3", "(1 + 2 + 3) / 3"),
        ("1,234.5 + 2,000", "1,234.5 + 2,000", "1234.5 + 2000"),
        ("Is it true that 3 times 4 is 12?", "3 times 4", "3 * 4"),
        ("Oh 2+2 please", "2+2", "2 + 2"),
    ],
)
def test_a_calculation_is_written_for_a_calculator(text: str, phrase: str, expression: str) -> None:
    """The phrase is the text's own, the expression has only numbers and operators."""
    assert find_calculations(text, asked=True) == [Calculation(phrase, expression)]


def test_several_calculations_are_found_in_order() -> None:
    """Each calculation of a clause is its own."""
    assert find_calculations("What are 2+2 and 3*4?", asked=True) == [
        Calculation("2+2", "2 + 2"),
        Calculation("3*4", "3 * 4"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Do we offer 24/7 support?",
        "What is on pages 3-5 of the book?",
        "What is CVE-2021-44228?",
        "What happened on 2024-05-01?",
        "What changed in 1.2.3?",
        "Who called 3 times?",
        "Is it over 9000?",
        "Which of the 3 services and 4 tools failed?",
        "What is 17.5%?",
        "Is the 3rd of 5 replicas up?",
        "What is one of the reasons?",
        "What is the sum of 5?",
    ],
)
def test_other_numbers_are_no_calculation(text: str) -> None:
    """Dates, versions, names, page ranges and counts are left alone."""
    assert find_calculations(text, asked=True) == []


@pytest.mark.parametrize(
    "text",
    [
        "1,5 + 2",
        "2 + 1,5",
        "12,50 + 2",
        "2.480,50 * 2",
        "17,5 % of 2000",
        "average of 1,5 and 6",
        "add 1,5 to 2 + 3",
        "1 500 + 2",
        "1'500 + 2",
        "1_500 - 2 + 3",
        "5kg + 2 + 3",
        "one comma five plus two",
        "twelve point fourteen plus one",
        "twelve oh five plus one",
        "point five plus 2",
        "negative five plus two",
        "a third of 9 + 3",
        "two times three and a half",
        "2 * 3 1/2",
        "½ of 2 + 3",
        "1/2 + 1/4 of 12",
        "square of 5 + 2",
        "10 + 3 mod 2",
        "x + 2 + 3",
        "2 + 3 + x",
        "2(3+4)",
        "(1+2)(3+4)",
        "2*(1+2",
        "1+2) * 3",
        "0x10",
        "0x10 + 2",
        "0b11 * 2",
        "12. 5 + 1",
        "1 + 12. 5",
        "the total - 5 + 3",
        "–5 + 3",
        "— 5 + 3",
        "* 5 + 3",
        "+".join("1" * 300),
    ],
)
def test_what_is_not_read_whole_is_not_calculated_in_part(text: str) -> None:
    """Beside a number or an operator that was not read, the rest has another value."""
    assert find_calculations(text, asked=True) == []
    assert find_calculations(text, asked=False) == []


def test_a_statement_is_not_calculated_unless_it_is_nothing_else() -> None:
    """Who tells a story with numbers did not ask for a calculation."""
    assert find_calculations("I bought 3 times 4 apples", asked=False) == []
    assert find_calculations("3 times 4 please", asked=False) == [Calculation("3 times 4", "3 * 4")]


_PLAIN: Final = st.decimals(0, 10**6, places=2).map(lambda number: format(number, "f"))
_SPOKEN: Final = {
    "+": ["+", " + ", " plus "],
    "-": [" - ", " minus "],
    "*": ["*", " × ", " times ", " multiplied by "],
    "/": [" / ", " ÷ ", " divided by "],
}


_DIGIT_WORDS: Final = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
)  # fmt: skip


@st.composite
def _spoken_expressions(draw: st.DrawFn) -> tuple[str, str]:
    """An expression as people write it, and the same as Python reads it."""

    def build(depth: int) -> tuple[str, str]:
        if depth == 0 or draw(st.booleans()):
            number = draw(_PLAIN)
            written = number
            if draw(st.booleans()):
                written = format(Decimal(number), ",f")
            return written, number
        sign = draw(st.sampled_from("+-*/"))
        left, right = build(depth - 1), build(depth - 1)
        if sign == "/" and exact_value(right[1]) == 0:
            sign = "+"
        spoken = draw(st.sampled_from(_SPOKEN[sign]))
        return f"({left[0]}){spoken}({right[0]})", f"({left[1]}) {sign} ({right[1]})"

    left, right = build(2), build(2)
    return f"({left[0]}) plus ({right[0]})", f"({left[1]}) + ({right[1]})"


@given(_spoken_expressions())
def test_the_value_survives_however_it_is_said(case: tuple[str, str]) -> None:
    """The recognised expression has exactly the value of what was said."""
    spoken, exact = case
    (found,) = find_calculations(f"What is {spoken}?", asked=True)
    assert found.phrase == spoken
    assert exact_value(found.expression) == exact_value(exact)


@given(st.lists(st.tuples(st.sampled_from("+-*"), _PLAIN), min_size=1, max_size=6), _PLAIN)
def test_precedence_is_that_of_arithmetic(terms: list[tuple[str, str]], first: str) -> None:
    """A chain without brackets means what it means everywhere."""
    chain = first + "".join(f" {sign} {number}" for sign, number in terms)
    (found,) = find_calculations(f"calculate {chain}", asked=True)
    assert exact_value(found.expression) == exact_value(chain)


@given(_PLAIN, _PLAIN)
def test_percentages_are_exact(part: str, whole: str) -> None:
    """x% of y is x times y over a hundred, without rounding."""
    (found,) = find_calculations(f"What is {part}% of {whole}?", asked=True)
    assert exact_value(found.expression) == Fraction(part) * Fraction(whole) / 100


_STRAY: Final = st.one_of(
    _PLAIN,
    st.integers(0, 10**6).map(lambda number: format(number, ",d")),
    st.integers(0, 99).map(lambda number: f"{number},5"),
    st.sampled_from(
        [
            "twelve", "two thousand", "twelve point", "one point fourteen", "ninety-nine",
            "a hundred", "two thirds", "a dozen", "5kg", "3rd", "1.2.3", "1'500", "10%", "½",
            "three and a half",
        ]
    ),
)  # fmt: skip
_NEXT_TO: Final = st.sampled_from([" ", ", ", " and ", " of ", " and the ", " $", " (", ") "])


@given(_STRAY, _NEXT_TO, _PLAIN, _PLAIN, st.sampled_from(["*", " times ", " divided by "]))
def test_a_number_beside_a_calculation_is_never_left_out(
    stray: str, between: str, left: str, right: str, spoken: str
) -> None:
    """What has a number beside it is not calculated without that number, on either side."""
    calculation = f"{left}{spoken}{right}"
    for text in (f"{stray}{between}{calculation}", f"{calculation}{between}{stray}"):
        found = find_calculations(f"What is {text}?", asked=True)
        assert calculation not in [each.phrase for each in found]


@given(st.integers(0, 999), st.lists(st.integers(0, 9), min_size=1, max_size=6), st.data())
def test_decimals_are_read_digit_by_digit(
    whole: int, digits: list[int], data: st.DataObject
) -> None:
    """The words after "point" are its digits."""
    spelled = " ".join(
        data.draw(st.sampled_from(["zero", "oh"])) if digit == 0 else _DIGIT_WORDS[digit]
        for digit in digits
    )
    (found,) = find_calculations(f"What is {whole} point {spelled} plus 1?", asked=True)
    assert exact_value(found.expression) == Fraction(f"{whole}.{''.join(map(str, digits))}") + 1


@given(st.text(max_size=300), st.booleans())
def test_any_text_is_survived(text: str, asked: bool) -> None:
    """Whatever is written, phrases are parts of it and expressions are made of arithmetic."""
    for found in find_calculations(text, asked=asked):
        assert found.phrase in text
        assert set(found.expression) <= set("0123456789.+-*/() sqrt")


@pytest.mark.parametrize("text", ["(" * 100_000 + "1+1", "1+(" * 5_000, "-" * 50_000 + "1"])
def test_hostile_nesting_is_survived(text: str) -> None:
    """Depth and length are bounded."""
    assert len(find_calculations(text, asked=True)) <= 1
