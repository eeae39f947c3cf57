"""Which times a cron expression names, where clocks change too."""

import contextlib
import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshkit.errors import InvalidField
from services.coordinator.cron_times import MAX_COUNTED, CronTimes


def utc(text: str) -> datetime:
    """A time such as `2026-01-05 09:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def after(cron: str, time_zone: str, start: str, count: int) -> list[str]:
    """The first times after `start`, in UTC."""
    times = CronTimes(cron, time_zone)
    found: list[str] = []
    time: datetime | None = utc(start)
    for _ in range(count):
        assert time is not None
        time = times.after(time)
        found.append(f"{time:%Y-%m-%d %H:%M}")
    return found


def test_times_are_read_in_the_schedule_s_time_zone() -> None:
    """Nine in Berlin is eight in UTC in winter, and seven in summer."""
    assert after("0 9 * * 1-5", "", "2026-01-02 09:00", 2) == [
        "2026-01-05 09:00",
        "2026-01-06 09:00",
    ]
    assert after("0 9 * * *", "Europe/Berlin", "2026-03-27 12:00", 3) == [
        "2026-03-28 08:00",
        "2026-03-29 07:00",
        "2026-03-30 07:00",
    ]


def test_a_time_of_day_that_the_clock_skips_is_made_up_for_once() -> None:
    """Right after the gap: 03:00 in Berlin on 2026-03-29 follows 01:59."""
    assert after("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", 2) == [
        "2026-03-29 01:00",
        "2026-03-30 00:30",
    ]
    assert after("0,15,30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", 2) == [
        "2026-03-29 01:00",
        "2026-03-30 00:00",
    ]


def test_a_time_of_day_that_the_clock_repeats_counts_once() -> None:
    """Wherever inside of the repeated hour one looks from."""
    times = CronTimes("30 2 * * *", "Europe/Berlin")
    assert after("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", 2) == [
        "2026-10-25 00:30",
        "2026-10-26 01:30",
    ]
    for start in ("2026-10-25 00:30", "2026-10-25 01:00", "2026-10-25 01:10", "2026-10-25 01:45"):
        assert times.after(utc(start)) == utc("2026-10-26 01:30")


def test_every_quarter_of_an_hour_goes_by_what_really_passes() -> None:
    """The night with the repeated hour has four more, that with the gap four fewer."""
    for start, count in (("2026-10-24 22:00", 100), ("2026-03-28 23:00", 92)):
        times = CronTimes("*/15 * * * *", "Europe/Berlin")
        midnight = (
            utc(start).astimezone(ZoneInfo("Europe/Berlin")) + timedelta(days=1)
        ).astimezone(UTC)
        found, missed = times.latest(utc(start), midnight - timedelta(seconds=1), limit=1000)
        assert (len(found), missed) == (count, 0)
        steps = {later - earlier for earlier, later in itertools.pairwise(found)}
        assert steps == {timedelta(minutes=15)}


def test_a_day_of_the_month_and_one_of_the_week_are_alternatives() -> None:
    """As cron has it, unless one of them begins with a star."""
    assert after("0 0 13 * 5", "", "2026-01-01 12:00", 3) == [
        "2026-01-02 00:00",
        "2026-01-09 00:00",
        "2026-01-13 00:00",
    ]


def test_a_leap_day_comes() -> None:
    """However long that takes."""
    assert after("0 0 29 2 *", "", "2026-01-01 00:00", 1) == ["2028-02-29 00:00"]


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("", "must be 5 fields: minute, hour, day of month, month and day of week;"
         " `0 9 * * 1-5` is at nine on working days"),
        ("@daily", "must be 5 fields: minute, hour, day of month, month and day of week;"
         " `0 9 * * 1-5` is at nine on working days"),
        ("0 0 9 * * 1-5", "must be 5 fields: minute, hour, day of month, month and day of week;"
         " `0 9 * * 1-5` is at nine on working days"),
        (f"{','.join(['1'] * 200)} * * * *", "must be 5 fields: minute, hour, day of month, month"
         " and day of week; `0 9 * * 1-5` is at nine on working days"),
        ("60 * * * *", "is not a time that ever comes: bad minute"),
        ("* 24 * * *", "is not a time that ever comes: bad hour"),
        ("0 0 30 2 *", "is not a time that ever comes: bad day-of-month"),
        ("0 0 31 4,6,9,11 *", "is not a time that ever comes: bad day-of-month"),
        ("0 0 * 13 *", "is not a time that ever comes: bad month"),
        ("0 0 * * 1#6", "is not a time that ever comes: bad day-of-week"),
        ("*/0 * * * *", "is not a time that ever comes: bad minute"),
    ],
)  # fmt: skip
def test_an_expression_that_names_no_time_is_refused(cron: str, message: str) -> None:
    """With the part that is wrong."""
    with pytest.raises(InvalidField) as refused:
        CronTimes(cron, "")
    assert refused.value.message == f"schedule.cron: {message}"


@pytest.mark.parametrize(
    "name",
    ["Mars/Olympus", "../../etc/passwd", "/etc/passwd", "Europe", "localtime", "\x00", "x" * 300],
)
def test_a_time_zone_that_does_not_exist_is_refused(name: str) -> None:
    """Whatever it looks like."""
    with pytest.raises(InvalidField) as refused:
        CronTimes("* * * * *", name)
    assert refused.value.message == (
        "schedule.time_zone: must be the IANA name of a time zone, such as 'Europe/Berlin',"
        f" not {name[:80]!r}"
    )


def test_the_last_of_many_missed_times_are_found_quickly() -> None:
    """Ten years of minutes take no longer than one; those before are counted up to a limit."""
    times = CronTimes("* * * * *", "")
    first, now = utc("2016-01-01 00:00"), utc("2026-01-01 00:00")
    found, missed = times.latest(first, now, limit=3)
    assert found == [now - timedelta(minutes=2), now - timedelta(minutes=1), now]
    assert missed == MAX_COUNTED


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
def test_the_latest_times_and_those_before_are_all_there_are(limit: int) -> None:
    """Whether they are many or few, close or far apart."""
    for cron in ("*/7 3 * * *", "0 0 1 * *", "0 12 * * 1", "*/30 * * * *"):
        times = CronTimes(cron, "Europe/Berlin")
        first = times.after(utc("2026-02-01 00:00"))
        assert first is not None
        now = first + timedelta(days=9, seconds=20)
        every, time = [first], times.after(first)
        while time is not None and time <= now:
            every.append(time)
            time = times.after(time)
        found, missed = times.latest(first, now, limit=limit)
        assert found == every[-limit:]
        assert missed == len(every) - len(found)


_ATOMS = st.sampled_from(["*", "*/7", "0", "15", "0,30", "2", "1-3", "2/5", "20-40/5"])


@given(
    minute=_ATOMS,
    hour=st.sampled_from(["*", "*/3", "0", "1", "2", "3", "1-3", "2,3"]),
    day=st.sampled_from(["*", "29", "25", "8", "L"]),
    zone=st.sampled_from(
        ["", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]
    ),
    start=st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)),
)
@example("30", "2", "*", "Europe/Berlin", datetime(2026, 10, 25, 1, 10))
@example("45", "1", "*", "Australia/Lord_Howe", datetime(2026, 4, 4, 15, 5))
def test_times_come_one_after_another(
    minute: str, hour: str, day: str, zone: str, start: datetime
) -> None:
    """Each is after the one before, to the minute, and found again from any point between."""
    times = CronTimes(f"{minute} {hour} {day} * *", zone)
    time = start.replace(tzinfo=UTC)
    for _ in range(6):
        following = times.after(time)
        assert following is not None
        assert following > time
        assert (following.second, following.microsecond) == (0, 0)
        assert times.after(time + (following - time) / 2) == following
        assert times.after(following - timedelta(microseconds=1)) == following
        time = following


@given(st.text(alphabet="0123456789*/,-#LW MONJAN²", max_size=40))
def test_any_text_is_an_expression_or_refused(cron: str) -> None:
    """And what is accepted has a next time, or none for fifty years."""
    start = utc("2026-01-01 00:00")
    with contextlib.suppress(InvalidField):
        found = CronTimes(cron, "").after(start)
        assert found is None or found > start
