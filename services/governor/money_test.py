"""Amounts as people read them."""

import pytest

from services.governor.money import usd


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "0.00 USD"),
        (1, "0.000001 USD"),
        (1_500_000, "1.50 USD"),
        (2_480_000_000, "2,480.00 USD"),
        (12_345_678, "12.345678 USD"),
    ],
)
def test_amounts_are_written_for_people(micros: int, text: str) -> None:
    """Two decimals at least, no more than there are, never rounded."""
    assert usd(micros) == text
