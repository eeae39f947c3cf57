"""Local days and hours of times that a database has in microseconds."""

from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

from services.governor.ledger_sums import micros_of, time_of

DAY_MICROS: Final = 86_400_000_000
HOUR_MICROS: Final = 3_600_000_000
_DAY: Final = timedelta(days=1)
_MINUTE: Final = timedelta(minutes=1)
_MICROSECOND: Final = timedelta(microseconds=1)


class Stretch(NamedTuple):
    """A time from which on the zone is this far ahead of UTC."""

    start_micros: int
    ahead_micros: int


def stretches(zone: tzinfo, start: datetime, end: datetime) -> list[Stretch]:
    """How far a zone is ahead of UTC in a time, in order; the first one begins at `start`."""
    found = [Stretch(micros_of(start), _ahead(zone, start))]
    before = start
    while before < end:
        after = min(before + _DAY, end)
        if _ahead(zone, after) != found[-1].ahead_micros:
            change = _change(zone, before, after)
            found.append(Stretch(micros_of(change), _ahead(zone, change)))
        before = after
    return found


def day_text(local_day: int) -> str:
    """A day by its number since 1970, such as `2026-11-20`."""
    return str(date(1970, 1, 1) + local_day * _DAY)


def hour_text(start_micros: int, ahead_micros: int) -> str:
    """A local hour by its beginning, such as `2026-11-20T14:00+01:00`."""
    minutes = ahead_micros // 60_000_000
    sign = "-" if minutes < 0 else "+"
    hours, rest = divmod(abs(minutes), 60)
    local = time_of(start_micros + ahead_micros)
    return f"{local:%Y-%m-%dT%H:00}{sign}{hours:02}:{rest:02}"


def _ahead(zone: tzinfo, time: datetime) -> int:
    offset = time.astimezone(zone).utcoffset()
    assert offset is not None
    return offset // _MICROSECOND


def _change(zone: tzinfo, before: datetime, after: datetime) -> datetime:
    """The first minute of the later offset."""
    former = _ahead(zone, before)
    low, high = before, after
    while high - low > _MINUTE:
        middle = low + (high - low) / 2
        if _ahead(zone, middle) == former:
            low = middle
        else:
            high = middle
    return high.astimezone(UTC).replace(second=0, microsecond=0)
