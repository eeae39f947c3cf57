"""Time, as a constructor argument."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where time comes from. Tests put one in that they move by hand."""

    def now(self) -> datetime:
        """The time of day, in UTC."""
        ...

    def monotonic_seconds(self) -> float:
        """Seconds since some point, never going back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after that many seconds of this clock."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """The time of day, in UTC."""
        return datetime.now(UTC)

    def monotonic_seconds(self) -> float:
        """Seconds since some point, never going back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Returns after that many seconds."""
        await asyncio.sleep(seconds)
