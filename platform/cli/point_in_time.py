"""Times on the command line."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

from cli.duration import parse_duration


def parse_time(text: str, now: datetime) -> datetime | None:
    """The time that `text` means at `now`; None where it means none.

    `7d` and `12h` are that long ago, `today` and `month` the beginning of the present
    day and month, `2026-11-20` a day's beginning, `2026-11-20T14:30` a minute. What
    names no zone is in the local one.
    """
    local = now.astimezone()
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    if text == "today":
        return midnight.astimezone()
    if text == "month":
        return midnight.replace(day=1).astimezone()
    ago = parse_duration(text) if text[-1:].isalpha() else None
    try:
        if ago is not None:
            return now - timedelta(seconds=ago)
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return None


class PointInTime(click.ParamType[datetime]):
    """A time as of `parse_time`, by the clock of this machine."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """The time, with its zone."""
        if isinstance(value, datetime):
            return value
        time = parse_time(str(value), datetime.now(UTC))
        if time is None:
            self.fail(
                f"{value!r} is no time, such as 7d (ago), today, month, 2026-11-20 or"
                " 2026-11-20T14:30.",
                param,
                ctx,
            )
        return time


POINT_IN_TIME: Final = PointInTime()
