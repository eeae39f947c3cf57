"""Opens the windows that begin soon, so that no call waits for the ledger when they do."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from meshkit.clock import Clock
from meshkit.errors import MeshError
from services.governor.account import Counter, Outdated, Standing

_EVERY_SECONDS: Final = 60.0
_AHEAD: Final = timedelta(minutes=5)
# At a time, so that the counters are busy with them for a moment only.
_CHUNK: Final = 100


class Windows(Protocol):
    """Who knows what counts at present."""

    def beginning(self, now: datetime, until: datetime) -> Sequence[Counter]:
        """The counters of the next windows of budgets in use, which begin until then."""
        ...


class Counters(Protocol):
    """Who knows which counters are there."""

    async def read(self, counters: Sequence[Counter]) -> Sequence[Standing | None]:
        """Where these stand; None for one that is not there."""
        ...


class Openings(Protocol):
    """Who opens them."""

    def want(self, counters: Sequence[Counter]) -> None:
        """Has these opened soon."""
        ...


class NextWindows:
    """Looks ahead once a minute."""

    def __init__(
        self, windows: Windows, counters: Counters, openings: Openings, clock: Clock
    ) -> None:
        self._windows: Final = windows
        self._counters: Final = counters
        self._openings: Final = openings
        self._clock: Final = clock

    async def run(self) -> None:
        """Runs until cancelled; what fails now is done a minute later, or by the first call."""
        while True:
            await self._clock.sleep(_EVERY_SECONDS)
            now = self._clock.now()
            counters = self._windows.beginning(now, now + _AHEAD)
            try:
                for start in range(0, len(counters), _CHUNK):
                    some = counters[start : start + _CHUNK]
                    found = await self._counters.read(some)
                    self._openings.want(
                        [one for one, there in zip(some, found, strict=True) if there is None]
                    )
            except (MeshError, Outdated):
                continue
