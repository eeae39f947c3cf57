"""Tests of which thresholds spending has reached."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.governor.alert import Kind
from services.governor.alert_thresholds import reached
from services.governor.budget import Thresholds

_MICROS = st.integers(0, 9_000_000_000_000_000)
_LIMITS = st.integers(1, 9_000_000_000_000_000)
_THRESHOLDS = st.builds(
    Thresholds,
    alert=st.integers(0, 100),
    degrade=st.integers(0, 100),
    throttle=st.integers(0, 100),
    shutoff=st.integers(0, 100),
)


@pytest.mark.parametrize(
    ("spent_micros", "kinds"),
    [
        (0, []),
        (4_999_999, []),
        (5_000_000, [Kind.ALERT]),
        (8_000_000, [Kind.ALERT, Kind.DEGRADE]),
        (9_499_999, [Kind.ALERT, Kind.DEGRADE]),
        (9_500_000, [Kind.ALERT, Kind.DEGRADE, Kind.THROTTLE]),
        (10_000_000, [Kind.ALERT, Kind.DEGRADE, Kind.THROTTLE, Kind.SHUTOFF]),
        (25_000_000, [Kind.ALERT, Kind.DEGRADE, Kind.THROTTLE, Kind.SHUTOFF]),
    ],
)
def test_a_threshold_is_reached_by_exactly_its_share(spent_micros: int, kinds: list[Kind]) -> None:
    """Spending exactly the share of the limit reaches a threshold, a micro-dollar less does not."""
    assert list(reached(spent_micros, 10_000_000, Thresholds(50, 80, 95, 100))) == kinds


def test_a_threshold_that_is_off_is_never_reached() -> None:
    """A threshold of 0 percent is off, however much is spent."""
    assert not reached(10**15, 1, Thresholds(0, 0, 0, 0))


@given(_MICROS, _LIMITS, _THRESHOLDS)
def test_reached_is_the_exact_share(
    spent_micros: int, limit_micros: int, thresholds: Thresholds
) -> None:
    """What is reached is right to the micro-dollar, without rounding, for all amounts there are."""
    share = Fraction(spent_micros, limit_micros) * 100
    assert list(reached(spent_micros, limit_micros, thresholds).values()) == [
        percent for percent in thresholds if percent and share >= percent
    ]


@given(_LIMITS, _THRESHOLDS, st.lists(_MICROS, min_size=2))
def test_more_spending_never_reaches_less(
    limit_micros: int, thresholds: Thresholds, spent: list[int]
) -> None:
    """What was reached stays reached while spending grows."""
    found = [reached(each, limit_micros, thresholds).items() for each in sorted(spent)]
    assert all(before <= after for before, after in pairwise(found))
