"""Whether a month's limit will be passed before its end if spending goes on as it does.

The rule is that of burn rates over two windows, as B. Beyer and others give it for error
budgets in "The Site Reliability Workbook", O'Reilly, 2018, chapter 5, "Alerting on SLOs": it is
told when a long and a short window both burn too fast. Here, too fast is so fast that the rest
of the budget does not last for the rest of the month. The long window is a day, so that neither
the time of day nor one busy hour counts for more than it is; the short one is a twelfth of
it, as recommended there, so that nothing is told of spending that has stopped already.

Windows end now and begin with an hour of the clock: spending is kept by the hour.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

LONG: Final = timedelta(hours=24)
SHORT: Final = timedelta(hours=2)
_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Overage:
    """What a month comes to."""

    # Spent at the end of the month.
    projected_micros: int
    # When the limit is reached.
    limit_reached_at: datetime


def window_end(now: datetime) -> datetime:
    """When windows end that end now, with an hour: up to one hour late."""
    return now.replace(minute=0, second=0, microsecond=0) + _HOUR


def window_start(now: datetime, length: timedelta) -> datetime:
    """When the window of that length begins that ends now."""
    return window_end(now) - length


def overage(
    *,
    now: datetime,
    month_end: datetime,
    limit_micros: int,
    spent_micros: int,
    long_micros: int,
    short_micros: int,
) -> Overage | None:
    """What the month comes to where its limit does not last; None where it does.

    Args:
        now: The present moment.
        month_end: When the limit applies anew.
        limit_micros: The month's limit.
        spent_micros: Spent in the month so far.
        long_micros: Spent since `window_start(now, LONG)`.
        short_micros: Spent since `window_start(now, SHORT)`.
    """
    left = limit_micros - spent_micros
    # What is reached already is told as such.
    if left <= 0 or now >= month_end:
        return None
    per_second = min(
        micros / (now - window_start(now, length)).total_seconds()
        for micros, length in ((long_micros, LONG), (short_micros, SHORT))
    )
    projected = spent_micros + per_second * (month_end - now).total_seconds()
    if projected <= limit_micros:
        return None
    return Overage(round(projected), now + timedelta(seconds=left / per_second))
