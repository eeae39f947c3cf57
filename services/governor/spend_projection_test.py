"""A day and a month are expected to cost what they did, by weekday and hour."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.governor.ledger_sums import micros_of
from services.governor.ledger_tables import QUARTER_MICROS
from services.governor.spend_projection import Present, Projection, Spent, project
from services.governor.window import WindowKind, window_of

_USD = 1_000_000
# A Friday.
_NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
_MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)
_BERLIN = ZoneInfo("Europe/Berlin")


def _quarter(time: datetime) -> int:
    return micros_of(time) // QUARTER_MICROS


def _project(
    spent: dict[int, int],
    kind: WindowKind,
    *,
    first: datetime | None,
    now: datetime = _NOON,
    limit: int = 0,
    zone: ZoneInfo | None = None,
) -> Projection:
    where = zone or UTC
    present = Present(now, window_of(WindowKind.DAY, now, where), where)
    return project(Spent(spent, first), present, window_of(kind, now, where), limit)


def _worked(days: int, *, mad: int | None = None) -> dict[int, int]:
    """10 dollars a working day, at 9, 10, 14 and 15 o'clock; a mad day costs 100 times as much."""
    spent: dict[int, int] = {}
    for back in range(days, -1, -1):
        day = _MIDNIGHT - timedelta(days=back)
        if day.weekday() < 5:
            for hour in (9, 10, 14, 15):
                if (time := day + timedelta(hours=hour)) < _NOON:
                    spent[_quarter(time)] = (100 if back == mad else 1) * _USD * 10 // 4
    return spent


@pytest.mark.parametrize("mad", [None, 7])
def test_the_shape_of_four_weeks_goes_on(mad: int | None) -> None:
    """Half of the day's spending is still to come, and five to six more working days."""
    spent = _worked(28, mad=mad)
    first = _NOON - timedelta(days=28)
    day = _project(spent, WindowKind.DAY, first=first)
    assert day.spent_micros == 5 * _USD
    assert day.projected_micros == pytest.approx(10 * _USD)
    assert day.method == (
        "Days cost the median of the same weekday in the past four weeks, and today goes on at"
        " its pace by the hours' shares of those weeks."
    )
    month = _project(spent, WindowKind.MONTH, first=first)
    # The 30th is a Monday: six working days are left after today.
    assert month.projected_micros - month.spent_micros == pytest.approx(5 * _USD + 6 * 10 * _USD)


def test_a_busy_day_goes_on_as_busy() -> None:
    """Twice as much as usual so far is twice as much as usual at the end."""
    spent = _worked(28)
    spent[_quarter(_MIDNIGHT + timedelta(hours=9))] *= 3
    day = _project(spent, WindowKind.DAY, first=_NOON - timedelta(days=28))
    assert (day.spent_micros, day.projected_micros) == (10 * _USD, pytest.approx(20 * _USD))


def test_a_day_that_has_hardly_begun_costs_what_is_usual() -> None:
    """Not nothing, and not what its first minute would come to."""
    now = _MIDNIGHT + timedelta(minutes=1)
    spent = {quarter: micros for quarter, micros in _worked(28).items() if quarter < _quarter(now)}
    day = _project(spent, WindowKind.DAY, first=now - timedelta(days=28), now=now)
    assert (day.spent_micros, day.projected_micros) == (0, pytest.approx(10 * _USD))


def test_the_limit_is_reached_when_the_expected_spending_reaches_it() -> None:
    """In the quarter of an hour in which it is spent; at once where it is spent already."""
    spent, first = _worked(28), _NOON - timedelta(days=28)
    day = _project(spent, WindowKind.DAY, first=first, limit=8_750_000)
    assert day.limit_reached_at == _MIDNIGHT + timedelta(hours=15, minutes=7.5)
    assert _project(spent, WindowKind.DAY, first=first, limit=11 * _USD).limit_reached_at is None
    assert _project(spent, WindowKind.DAY, first=first, limit=5 * _USD).limit_reached_at == _NOON
    assert _project(spent, WindowKind.DAY, first=first).limit_reached_at is None


def test_without_two_weeks_of_history_time_counts() -> None:
    """As much per hour as since the first spending in the window."""
    first = _MIDNIGHT + timedelta(hours=6)
    spent = {_quarter(first): 6 * _USD}
    day = _project(spent, WindowKind.DAY, first=first, limit=12 * _USD)
    assert day.projected_micros == 18 * _USD
    assert day.limit_reached_at == _MIDNIGHT + timedelta(hours=18)
    assert day.method == (
        "Spending goes on as it did since 2026-11-20T06:00Z, evenly: there are not yet two weeks"
        " of it to go by."
    )


def test_who_spent_nothing_for_four_weeks_is_not_called_new() -> None:
    """Time counts, since there is nothing else to go by, and the method says why."""
    first = _MIDNIGHT - timedelta(days=60)
    spent = {_quarter(_MIDNIGHT + timedelta(hours=11)): 6 * _USD}
    day = _project(spent, WindowKind.DAY, first=first)
    assert (day.spent_micros, day.projected_micros) == (6 * _USD, 12 * _USD)
    assert day.method == (
        "Spending goes on as it did since 2026-11-20T00:00Z, evenly: the past four weeks have too"
        " little of it to go by."
    )


def test_who_never_spent_anything_is_expected_to_spend_nothing() -> None:
    """Whatever the limit."""
    day = _project({}, WindowKind.DAY, first=None, limit=1)
    assert (day.spent_micros, day.projected_micros, day.limit_reached_at) == (0, 0, None)


@given(
    spent=st.dictionaries(st.integers(-28 * 96, 50), st.integers(0, 10**10), max_size=30),
    first_day=st.integers(0, 40),
    limit=st.integers(0, 10**11),
    kind=st.sampled_from([WindowKind.DAY, WindowKind.MONTH]),
    minutes=st.integers(0, 1439),
)
def test_what_is_spent_stays_spent(
    spent: dict[int, int], first_day: int, limit: int, kind: WindowKind, minutes: int
) -> None:
    """No projection is below what was spent, and a limit is reached only where it is passed."""
    now = _MIDNIGHT + timedelta(minutes=minutes)
    quarters = {_quarter(_MIDNIGHT) + each: micros for each, micros in spent.items()}
    first = _MIDNIGHT - timedelta(days=first_day)
    found = _project(quarters, kind, first=first, now=now, limit=limit, zone=_BERLIN)
    assert found.projected_micros >= found.spent_micros
    assert found.window.end is not None
    if found.limit_reached_at is not None:
        assert found.projected_micros >= limit - 1
        assert now <= found.limit_reached_at <= found.window.end
    elif limit:
        assert found.projected_micros <= limit
