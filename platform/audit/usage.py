"""The journal of usage: what was settled, in the order in which it was written down."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import NamedTuple, Protocol


class Spent(NamedTuple):
    """What one settled call cost. Of a tenant's records with the same key the first one counts."""

    # Of the message in the journal that holds it.
    sequence: int
    tenant: str
    key: str
    task_type: str
    agent: str
    session: str
    cost_micros: int
    # Seconds since 1970. Budgets count it in the day and month of this time.
    settled_at: float


class Span(NamedTuple):
    """How far the journal goes."""

    # The last sequence there is.
    end: int
    # What was settled from then on is in it.
    since: datetime
    # Nothing was ever removed from it.
    whole: bool


class Journal(Protocol):
    """The journal, only read."""

    async def span(self) -> Span | None:
        """How far it goes now; None where there is none."""
        ...

    def read(self, after: int, until: int) -> AsyncGenerator[Spent]:
        """The records after one sequence up to another, in order, with their repeats."""
        ...
