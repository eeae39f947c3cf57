"""Figures and texts as people read them."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import wording


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "$0.00"),
        (12, "$0.000012"),
        (250_000, "$0.25"),
        (1_234_567_890, "$1,234.56789"),
        (-5_000_000, "-$5.00"),
    ],
)
def test_dollars(micros: int, text: str) -> None:
    """Money keeps every millionth and at least two decimals."""
    assert wording.dollars(micros) == text


@given(st.integers(min_value=-(10**15), max_value=10**15))
def test_dollars_are_exact(micros: int) -> None:
    """What is printed is the very amount."""
    printed = wording.dollars(micros).replace("$", "").replace(",", "")
    assert Decimal(printed) * 1_000_000 == micros


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 ms"),
        (0.00042, "0.42 ms"),
        (0.0123, "12 ms"),
        (0.25, "250 ms"),
        (0.9996, "1.0 s"),
        (12.34, "12.3 s"),
        (65, "1 min 5 s"),
        (7_260, "2 h 1 min"),
        (86_400, "1 d 0 h"),
        (612_000, "7 d 2 h"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    """A duration has the unit that fits it."""
    assert wording.seconds(value) == text


def test_clean_takes_what_steers_a_terminal() -> None:
    """Escape sequences lose their escape, lines and tabs stay."""
    assert wording.clean("a\x1b[31mb\x07\r\n\tc\x9b") == "a[31mb\n\tc"


@given(st.text(), st.integers(min_value=1, max_value=100))
def test_shorten_fits_in_one_line(text: str, limit: int) -> None:
    """A shortened text is one line and never longer than asked."""
    shortened = wording.shorten(text, limit)
    assert len(shortened) <= limit
    assert "\n" not in shortened
