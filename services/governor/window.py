"""Calendar windows: the days and months, in a time zone, in which budgets are counted."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

# Names that mean something else on every machine.
_NO_ZONES: Final = frozenset({"localtime", "posixrules", "Factory"})
_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)


class WindowKind(StrEnum):
    """How long a counter runs before it starts again."""

    DAY = "day"
    MONTH = "month"
    # It never starts again.
    LIFETIME = "lifetime"


@dataclass(frozen=True, slots=True)
class Window:
    """A day, a month, or all time. Times are in UTC."""

    kind: WindowKind
    start: datetime
    # The first moment after it; None for a lifetime.
    end: datetime | None


def zone_of(name: str) -> tzinfo | None:
    """The IANA time zone of that name, UTC if empty; None if there is none."""
    if name in ("", "UTC"):
        return UTC
    if name in _NO_ZONES:
        return None
    try:
        return ZoneInfo(name)
    except (LookupError, OSError, ValueError):
        return None


def window_of(kind: WindowKind, now: datetime, zone: tzinfo) -> Window:
    """The window of that kind in which `now` lies, in that time zone.

    A day has 23 or 25 hours where the clock is changed in it. One whose midnight
    the clock skips begins right after the gap; where midnight comes twice, the
    first one counts.
    """
    if kind is WindowKind.LIFETIME:
        return Window(kind, _EVER, None)
    today = now.astimezone(zone).date()
    if kind is WindowKind.DAY:
        first, after = today, today + _DAY
    else:
        first = today.replace(day=1)
        # The 1st and 31 days more always lie in the month that follows.
        after = (first + timedelta(days=31)).replace(day=1)
    return Window(kind, _midnight(first, zone), _midnight(after, zone))


def _midnight(day: date, zone: tzinfo) -> datetime:
    # In a gap this is reckoned by the clock before it, and so is the end of the gap.
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
