"""The times that a cron expression names."""

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from meshkit.errors import InvalidField, Violation

MAX_CRON_LENGTH: Final = 256
_FIELDS: Final = 5
# Names that mean something else on every machine.
_NO_ZONES: Final = frozenset({"localtime", "posixrules", "Factory"})
# Going back through a year of minutes would take seconds.
MAX_COUNTED: Final = 1000
_FIRST_LOOK: Final = timedelta(hours=1)
_SECOND: Final = timedelta(seconds=1)


class CronTimes:
    """The times of one expression in one time zone, to the minute.

    As in Debian's cron, a time of day that the clock skips is made up for right
    after the gap, one that it repeats counts once, and `*` for hour or minute
    goes by what really passes.
    """

    def __init__(self, cron: str, time_zone: str) -> None:
        """`time_zone` may be empty for UTC.

        Raises:
            InvalidField: One of the two, or both, cannot be read; the paths begin with `schedule`.
        """
        wrong = [*_wrong_cron(cron)]
        zone = _zone(time_zone)
        if zone is None:
            wrong.append(
                Violation(
                    "schedule.time_zone",
                    "must be the IANA name of a time zone, such as 'Europe/Berlin',"
                    f" not {time_zone[:80]!r}",
                )
            )
        if wrong:
            raise InvalidField.many(wrong)
        self._cron = cron
        self._zone = zone

    def after(self, time: datetime) -> datetime | None:
        """The first time after `time`; None if there is none in the next 50 years."""
        return next(self._since(time + timedelta(microseconds=1)), None)

    def latest(self, first: datetime, now: datetime, *, limit: int) -> tuple[list[datetime], int]:
        """The last times from `first`, which is one, up to `now`, in order.

        Returns:
            At most `limit` of them, and how many came before those; counted up
            to MAX_COUNTED.
        """
        look_back = _FIRST_LOOK
        while True:
            start = max(first, now - look_back)
            found: deque[datetime] = deque(maxlen=limit)
            for time in self._since(start):
                if time > now:
                    break
                found.append(time)
            if start == first or len(found) == limit:
                break
            look_back *= 4
        before = 0
        for time in self._since(first):
            if time >= found[0] or before == MAX_COUNTED:
                break
            before += 1
        return list(found), before

    def _since(self, start: datetime) -> Iterator[datetime]:
        # The library looks from the next second on.
        local = (start - _SECOND).astimezone(self._zone)
        for found in CronSim(self._cron, local):
            time = found.astimezone(UTC)
            # Inside of an hour that is repeated it may begin with its first half.
            if time >= start:
                yield time


def _wrong_cron(cron: str) -> Iterator[Violation]:
    if len(cron) > MAX_CRON_LENGTH or len(cron.split()) != _FIELDS:
        yield Violation(
            "schedule.cron",
            f"must be {_FIELDS} fields: minute, hour, day of month, month and day of week;"
            " `0 9 * * 1-5` is at nine on working days",
        )
        return
    try:
        CronSim(cron, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        part = str(error)
        yield Violation(
            "schedule.cron", f"is not a time that ever comes: {part[:1].lower()}{part[1:]}"
        )


def _zone(name: str) -> tzinfo | None:
    """The time zone; None if there is none of that name."""
    if name in ("", "UTC"):
        return UTC
    if name in _NO_ZONES:
        return None
    try:
        return ZoneInfo(name)
    except (LookupError, OSError, ValueError):
        return None
