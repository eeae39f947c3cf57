"""Test-only: writes charges into a ledger as if they came from the journal."""

from datetime import UTC, datetime
from typing import Any, Final

from services.governor.ledger_charge import Charge, Figures
from services.governor.ledger_ends import Ended, TaskEnds
from services.governor.ledger_sums import micros_of
from services.governor.ledger_writer import LedgerWriter
from services.governor.usage_stream import STREAM
from sqlstore.database import Database
from sqlstore.positions import BEGINNING, Place

NOON: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)


def charge(key: str, cost_micros: int, time: datetime = NOON, **fields: Any) -> Charge:
    """One settled call of one input and two output tokens."""
    made = Charge(
        *("acme", key, "", "", "m", 0, "", "", "1", 0, micros_of(time), micros_of(time)),
        Figures(1, 2, 0, 1, 0, 0, cost_micros),
    )
    return made._replace(**fields)


class ScriptedSpending:
    """Carries at once what it is given."""

    def __init__(self, database: Database) -> None:
        self._writer: Final = LedgerWriter(database)
        self._ends: Final = TaskEnds(database)
        self._place = self._ends_place = BEGINNING

    async def charge(self, *charges: Charge) -> None:
        """As one message of the journal."""
        sequence = self._place.position + 1
        before, self._place = self._place, Place(sequence, sequence)
        message = [each._replace(sequence=sequence) for each in charges]
        await self._writer.apply([message], stream=STREAM, before=before, after=self._place)

    async def end(self, *tasks: str, succeeded: bool) -> None:
        """Has these tasks of acme end."""
        sequence = self._ends_place.position + 1
        before, self._ends_place = self._ends_place, Place(sequence, sequence)
        ended = [Ended("acme", each, micros_of(NOON), succeeded) for each in tasks]
        await self._ends.apply(ended, stream="TASKS", before=before, after=self._ends_place)
