"""Settlements that are in the journal and not counted yet: their repeats need not be written."""

from collections import OrderedDict
from datetime import datetime
from typing import Final, NamedTuple

from services.governor.calls import MadeCall

# What is forgotten is written once more, which costs a message and no money.
_MOST_KEPT: Final = 10_000


class Written(NamedTuple):
    """Where and when a settlement was written to the journal."""

    sequence: int
    settled_at: datetime
    # Redis was asked to count it, and its answer was not heard.
    maybe_counted: bool = False


class WaitingRecords:
    """Remembers the latest. For one event loop."""

    def __init__(self, *, most: int = _MOST_KEPT) -> None:
        """`most`: how many are remembered."""
        self._most: Final = most
        self._written: Final[OrderedDict[tuple[int, MadeCall], Written]] = OrderedDict()

    def find(self, journal: int, call: MadeCall) -> Written | None:
        """Where the same call is in that journal; None where nobody knows."""
        # It is seldom that anything waits.
        return self._written.get((journal, call)) if self._written else None

    def keep(self, journal: int, call: MadeCall, written: Written) -> None:
        """Remembers it until it is counted."""
        self._written[journal, call] = written
        if len(self._written) > self._most:
            self._written.popitem(last=False)

    def drop(self, journal: int, call: MadeCall) -> None:
        """It is counted."""
        if self._written:
            self._written.pop((journal, call), None)
