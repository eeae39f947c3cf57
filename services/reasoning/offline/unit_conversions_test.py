"""Amounts are converted exactly, and only where both units are of one kind."""

from fractions import Fraction
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.reasoning.offline.exact_value import exact_value
from services.reasoning.offline.unit_conversions import Conversion, find_conversion


@pytest.mark.parametrize(
    ("text", "phrase", "unit", "value"),
    [
        ("convert 5 miles to km", "5 miles", "km", "8.04672"),
        ("How many grams are in 3 pounds?", "3 pounds", "grams", "1360.77711"),
        ("What is 100 °F in Celsius?", "100 °F", "Celsius", "340/9"),
        ("convert -40 f to c", "-40 f", "c", "-40"),
        ("convert 300 kelvin to fahrenheit", "300 kelvin", "fahrenheit", "80.33"),
        ("how many days in 3 weeks", "3 weeks", "days", "21"),
        ("how many seconds are there in a day", "a day", "seconds", "86400"),
        ("What is 5 feet 3 inches in cm", "5 feet 3 inches", "cm", "160.02"),
        ("72 km/h to m/s", "72 km/h", "m/s", "20"),
        ("how many MiB is 2 GiB?", "2 GiB", "MiB", "2048"),
        ("1,500 ml in liters", "1,500 ml", "liters", "1.5"),
    ],
)
def test_an_amount_is_wanted_in_another_unit(text: str, phrase: str, unit: str, value: str) -> None:
    """The expression is worth the amount in that unit, exactly."""
    found = find_conversion(text)
    assert found is not None
    assert (found.phrase, found.unit) == (phrase, unit)
    assert exact_value(found.expression) == Fraction(value)


@pytest.mark.parametrize(
    "text",
    [
        "5 kg in miles",
        "How many gallons in 3 liters?",
        "convert 1,5 km to m",
        "convert 1.2.3 km to m",
        "how many days are in the documents",
        "How many months in 90 days?",
        "What is 5 in?",
        "convert 10 dollars to euros",
        "How many miles is it to Berlin?",
        "I walked 5 miles to km 3 of the road",
    ],
)
def test_what_cannot_be_converted_is_left_alone(text: str) -> None:
    """Other kinds, units that mean several things, and numbers that are not read whole."""
    assert find_conversion(text) is None


_LENGTHS: Final = st.sampled_from(["mm", "cm", "m", "km", "inches", "feet", "yards", "miles"])
_AMOUNTS: Final = st.decimals(0, 10**6, places=2)


@settings(deadline=None)
@given(_AMOUNTS, _LENGTHS, _LENGTHS)
def test_there_and_back_is_the_same(amount: Fraction, unit: str, other: str) -> None:
    """One unit of each way divides out exactly."""
    there = find_conversion(f"convert {amount} {unit} to {other}")
    back = find_conversion(f"convert 1 {other} to {unit}")
    assert there is not None
    assert back is not None
    assert exact_value(there.expression) * exact_value(back.expression) == Fraction(amount)


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_survived(text: str) -> None:
    """What is found is a part of the text."""
    found = find_conversion(text)
    assert found is None or isinstance(found, Conversion)
