"""Days and months."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.governor.window import day_of, month_of

# Busy machines are slow, and that is no fault of what is tested.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
_times = st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))


@_PATIENT
@given(_times)
def test_every_moment_lies_in_one_day_and_one_month(now: datetime) -> None:
    """Windows hold the moment, touch the next one, and share its id with nobody else."""
    for window_of in (day_of, month_of):
        window = window_of(now)
        assert window.start <= now < window.end
        assert window_of(window.end).start == window.end
        assert window_of(window.end).id != window.id
        assert window_of(window.end - timedelta(microseconds=1)) == window


def test_windows_follow_utc() -> None:
    """A moment counts in the day and month that it has in UTC."""
    now = datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))
    assert day_of(now).id == "day:2025-12-31"
    assert month_of(now).id == "month:2025-12"
