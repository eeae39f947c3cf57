"""How long a store remembers."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Remembered:
    """Of which events a store must know."""

    # As long as it remembers, less some time for the audit itself.
    longest: timedelta
    # What is younger may still be on its way.
    shortest: timedelta

    def covers(self, event_time: datetime, now: datetime) -> bool:
        """Whether something of that time must be known now."""
        return self.shortest <= now - event_time <= self.longest
