"""What the search for alerts asks the ledger."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from services.governor.budget import Scope


class Sums(Protocol):
    """What the ledger holds, in micro-USD, the calls in question included."""

    def spent(self, scope: Scope, start: datetime, end: datetime | None) -> int:
        """Spent in the scope from `start` until before `end`, None for no end."""
        ...

    def by_hour(self, tenant: str, hours: Sequence[datetime]) -> Sequence[int]:
        """Spent by the tenant in each of these hours, given by their beginnings."""
        ...

    def first_time(self, tenant: str) -> datetime | None:
        """When the tenant first spent anything, to the hour; None if it never did."""
        ...
