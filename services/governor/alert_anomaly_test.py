"""Tests of how unusual an hour is."""

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.governor.alert_anomaly import usual

_USD = 1_000_000
_AMOUNTS = st.integers(0, 10**12)
_HISTORY = st.lists(_AMOUNTS, min_size=7, max_size=28)
# Their median is 5 dollars, and that of the distances from it is 2 dollars.
_EVEN = [2 * _USD, 3 * _USD, 4 * _USD, 5 * _USD, 6 * _USD, 7 * _USD, 8 * _USD]


def _score(spent_micros: int, earlier: list[int]) -> float | None:
    """None where it is not unusual."""
    found = usual(earlier)
    assert found is not None
    return found.score(spent_micros) if found.is_passed_by(spent_micros) else None


def test_the_score_is_that_of_iglewicz_and_hoaglin() -> None:
    """The score is 0.6745 times the distance from the median, in units of the MAD."""
    found = usual(_EVEN)
    assert found is not None
    assert (found.days, found.median_micros) == (7, 5 * _USD)
    assert found.score(16 * _USD) == pytest.approx(0.6745 * 11 / 2, rel=1e-4)


def test_no_more_than_the_threshold_is_no_anomaly() -> None:
    """Up to a score of 3.5 an hour is as any other; a little above it is not."""
    limit = 5 * _USD + round(3.5 * 1.4826 * 2 * _USD)
    assert _score(limit - 1, _EVEN) is None
    assert _score(limit + 1, _EVEN) == pytest.approx(3.5)


def test_earlier_outliers_hide_no_later_one() -> None:
    """Three mad days among ten change little: median and MAD hardly move."""
    calm = [10 * _USD, 11 * _USD, 9 * _USD, 10 * _USD, 12 * _USD, 8 * _USD, 10 * _USD]
    mad = [900 * _USD, 1_000 * _USD, 800 * _USD]
    assert _score(50 * _USD, calm) is not None
    assert _score(50 * _USD, calm + mad) is not None


@pytest.mark.parametrize("days", range(7))
def test_less_than_a_week_of_history_tells_nothing(days: int) -> None:
    """Before there are seven earlier days, nothing is usual."""
    assert usual([_USD] * days) is None


def test_where_most_days_are_equal_the_mean_deviation_counts() -> None:
    """With a MAD of 0, the spread is 1.2533 times the mean absolute deviation."""
    earlier = [0, 0, 0, 0, 0, 0, 0, 0, 10 * _USD, 10 * _USD]
    # Their distances from 0, the median, are 2 dollars on average.
    spread = 1.2533 * 2 * _USD
    assert _score(round(3.5 * spread) - 1, earlier) is None
    assert _score(10 * _USD, earlier) == pytest.approx(10 * _USD / spread)


@pytest.mark.parametrize(
    ("usual_micros", "spent_micros", "score"),
    [
        # A tenth of the median is the least spread: 3.5 times that is a rise of 35 %.
        (10 * _USD, 13_500_000, None),
        (10 * _USD, 13_600_000, 3.6),
        # Ten cents are, where a tenth of the median is less.
        (0, 350_000, None),
        (0, 360_000, 3.6),
        (1_000, 351_000, None),
        (1_000, 361_000, 3.6),
    ],
)
def test_where_all_days_are_equal_a_small_rise_is_none(
    usual_micros: int, spent_micros: int, score: float | None
) -> None:
    """Without any spread a rise is measured against a tenth of the usual, or 10 cents."""
    assert _score(spent_micros, [usual_micros] * 28) == (score and pytest.approx(score))


@given(_AMOUNTS, _HISTORY)
def test_only_a_rise_is_an_anomaly(spent_micros: int, earlier: list[int]) -> None:
    """What is called unusual lies above the median by more than a third and 35 cents."""
    if _score(spent_micros, earlier) is not None:
        middle = median(earlier)
        assert spent_micros - middle > max(0.35 * middle, 350_000) * 0.999_999


@given(_AMOUNTS, _AMOUNTS, _HISTORY)
def test_more_is_never_less_unusual(one: int, other: int, earlier: list[int]) -> None:
    """An hour that costs more has at least the score of one that costs less."""
    less, more = (_score(each, earlier) for each in sorted((one, other)))
    if less is not None:
        assert more is not None
        assert more >= less


@given(_HISTORY)
def test_the_order_of_days_does_not_matter(earlier: list[int]) -> None:
    """Earlier days count alike, whichever comes first."""
    assert usual(sorted(earlier)) == usual(earlier)
