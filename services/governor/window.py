"""Calendar windows: the days and months, in UTC, in which budgets are counted."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True)
class Window:
    """A day or a month."""

    # `day` or `month`.
    kind: str
    start: datetime
    # The first moment after it.
    end: datetime

    @property
    def id(self) -> str:
        """Tells windows of all times apart: `day:2026-11-20`, `month:2026-11`."""
        return (
            f"{self.kind}:{self.start:%Y-%m-%d}"
            if self.kind == "day"
            else f"month:{self.start:%Y-%m}"
        )


def day_of(now: datetime) -> Window:
    """The day in which `now` lies."""
    start = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return Window("day", start, start + timedelta(days=1))


def month_of(now: datetime) -> Window:
    """The month in which `now` lies."""
    start = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    # The 1st and 31 days more always lie in the month that follows.
    return Window("month", start, (start + timedelta(days=31)).replace(day=1))
