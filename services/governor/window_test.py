"""Days and months."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.governor.window import WindowKind, window_of, zone_of

# Busy machines are slow, and that is no fault of what is tested.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
_times = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
# Some change their clocks at midnight, and one skipped a day.
_zones = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/Sao_Paulo",
        "America/Havana",
        "Asia/Beirut",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Kiritimati",
    ]
).map(ZoneInfo)


@_PATIENT
@given(_times, _zones, st.sampled_from([WindowKind.DAY, WindowKind.MONTH]))
def test_every_moment_lies_in_one_window(now: datetime, zone: ZoneInfo, kind: WindowKind) -> None:
    """Windows hold the moment and touch the next one, without a gap or an overlap."""
    window = window_of(kind, now, zone)
    assert window.end is not None
    assert window.start <= now < window.end
    assert window_of(kind, window.end, zone).start == window.end
    assert window_of(kind, window.end - timedelta(microseconds=1), zone) == window
    assert window_of(kind, window.start, zone) == window


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-28", 24), ("2026-03-29", 23), ("2026-10-25", 25)]
)
def test_days_are_as_long_as_the_clock_makes_them(day: str, hours: int) -> None:
    """In Berlin the day has 23 hours when summer time begins and 25 when it ends."""
    berlin = ZoneInfo("Europe/Berlin")
    noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=berlin)
    window = window_of(WindowKind.DAY, noon, berlin)
    assert window.end is not None
    assert window.end - window.start == timedelta(hours=hours)
    assert f"{window.start.astimezone(berlin):%Y-%m-%d %H:%M}" == f"{day} 00:00"


def test_a_day_whose_midnight_is_skipped_begins_after_the_gap() -> None:
    """In Beirut summer time begins at midnight: the clock goes from 24:00 to 1:00."""
    beirut = ZoneInfo("Asia/Beirut")
    window = window_of(WindowKind.DAY, datetime(2024, 3, 31, 12, tzinfo=UTC), beirut)
    assert window.start == datetime(2024, 3, 30, 22, tzinfo=UTC)
    assert window.start.astimezone(beirut).hour == 1
    assert window.end == datetime(2024, 3, 31, 21, tzinfo=UTC)


def test_windows_follow_their_time_zone() -> None:
    """The same moment is in the old year in one place and in the new one in another."""
    now = datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))
    assert window_of(WindowKind.DAY, now, UTC).start == datetime(2025, 12, 31, tzinfo=UTC)
    assert window_of(WindowKind.MONTH, now, UTC).start == datetime(2025, 12, 1, tzinfo=UTC)
    tokyo = ZoneInfo("Asia/Tokyo")
    assert window_of(WindowKind.MONTH, now, tokyo).start == datetime(2025, 12, 31, 15, tzinfo=UTC)


def test_a_lifetime_has_no_end() -> None:
    """Whenever it is asked for, it is the same window."""
    first = window_of(WindowKind.LIFETIME, datetime(2026, 1, 1, tzinfo=UTC), UTC)
    assert first.end is None
    assert window_of(WindowKind.LIFETIME, datetime(2036, 1, 1, tzinfo=UTC), UTC) == first


@pytest.mark.parametrize("name", ["Europe/Nowhere", "localtime", "../etc/passwd", "a\0b", "Europe"])
def test_what_is_no_time_zone_is_none(name: str) -> None:
    """A name that no clock goes by, or that means another on each machine, is not taken."""
    assert zone_of(name) is None
