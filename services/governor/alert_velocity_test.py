"""Tests of whether a month's limit lasts."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.governor.alert_velocity import LONG, SHORT, Overage, overage, window_start

_USD = 1_000_000
_NOW = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
_END = datetime(2026, 12, 1, tzinfo=UTC)
_HOURS_LEFT = 249
_AMOUNTS = st.integers(0, 10**15)
_TIMES = st.datetimes(
    datetime(2026, 1, 1),
    datetime(2027, 1, 1),
    timezones=st.just(UTC),
)


def _overage(
    *, limit: float, spent: float, long: float, short: float, now: datetime = _NOW
) -> Overage | None:
    """Amounts in dollars."""
    return overage(
        now=now,
        month_end=_END,
        limit_micros=round(limit * _USD),
        spent_micros=round(spent * _USD),
        long_micros=round(long * _USD),
        short_micros=round(short * _USD),
    )


@pytest.mark.parametrize(
    ("now", "length", "start"),
    [
        (datetime(2026, 11, 20, 15, 0, tzinfo=UTC), SHORT, datetime(2026, 11, 20, 14, tzinfo=UTC)),
        (datetime(2026, 11, 20, 15, 59, tzinfo=UTC), SHORT, datetime(2026, 11, 20, 14, tzinfo=UTC)),
        (datetime(2026, 11, 20, 15, 59, tzinfo=UTC), LONG, datetime(2026, 11, 19, 16, tzinfo=UTC)),
        (datetime(2026, 3, 1, 0, 0, tzinfo=UTC), LONG, datetime(2026, 2, 28, 1, tzinfo=UTC)),
    ],
)
def test_windows_begin_with_an_hour(now: datetime, length: timedelta, start: datetime) -> None:
    """A window ends now, begins with an hour, and is up to an hour shorter than it is called."""
    assert window_start(now, length) == start


def test_a_limit_that_does_not_last_is_told_with_what_the_month_comes_to() -> None:
    """A dollar an hour for the 249 hours that are left goes past a limit of 700 by 49."""
    assert _overage(limit=700, spent=500, long=23, short=1) == Overage(
        749 * _USD, _NOW + timedelta(hours=200)
    )


def test_a_limit_that_lasts_exactly_is_nothing_to_tell() -> None:
    """A month that comes to its limit and no further stays within it."""
    assert _overage(limit=500 + _HOURS_LEFT, spent=500, long=23, short=1) is None
    assert _overage(limit=499 + _HOURS_LEFT, spent=500, long=23, short=1) is not None


def test_one_busy_hour_in_a_calm_day_is_nothing_to_tell() -> None:
    """The long window has to burn too fast, too: five dollars in an hour are a third a day."""
    assert _overage(limit=700, spent=500, long=5, short=5) is None


def test_spending_that_has_stopped_is_nothing_to_tell() -> None:
    """The short window has to burn too fast, too: a day that was expensive may be over."""
    assert _overage(limit=700, spent=500, long=100, short=0) is None


def test_a_limit_that_is_reached_is_told_as_such_and_not_again() -> None:
    """Where nothing is left of the limit, there is nothing to foresee."""
    assert _overage(limit=700, spent=700, long=23, short=1) is None
    assert _overage(limit=700, spent=800, long=23, short=1) is None


def test_a_month_that_is_over_has_nothing_ahead() -> None:
    """At the end of the month its limit cannot be passed any more."""
    assert _overage(limit=700, spent=500, long=9_000, short=9_000, now=_END) is None


def _least_factor(now: datetime) -> float:
    """How many times the long window, which is the longer one, fits into the rest of the year."""
    return (datetime(2027, 1, 1, tzinfo=UTC) - now) / LONG * 0.999_999


@given(_TIMES, st.integers(1, 10**15), _AMOUNTS, _AMOUNTS, _AMOUNTS)
def test_what_is_told_is_an_overage(
    now: datetime, limit: int, spent: int, long: int, short: int
) -> None:
    """Only a month that comes to more than its limit is told: it is reached before the end."""
    month_end = datetime(2027, 1, 1, tzinfo=UTC)
    found = overage(
        now=now,
        month_end=month_end,
        limit_micros=limit,
        spent_micros=spent,
        long_micros=long,
        short_micros=short,
    )
    if found is not None:
        assert spent < limit <= found.projected_micros
        assert now <= found.limit_reached_at <= month_end
    else:
        burnt_out = spent >= limit or now >= month_end
        assert burnt_out or spent + min(long, short) * _least_factor(now) <= limit


@given(_TIMES, st.integers(1, 10**15), _AMOUNTS, _AMOUNTS, _AMOUNTS, _AMOUNTS)
def test_burning_faster_never_calms_it(
    now: datetime, limit: int, spent: int, long: int, short: int, more: int
) -> None:
    """What is told at one rate is told at any higher one."""

    def at(added: int) -> Overage | None:
        return overage(
            now=now,
            month_end=datetime(2027, 1, 1, tzinfo=UTC),
            limit_micros=limit,
            spent_micros=spent,
            long_micros=long + added,
            short_micros=short + added,
        )

    slower, faster = at(0), at(more)
    if slower is not None:
        assert faster is not None
        assert faster.projected_micros >= slower.projected_micros
