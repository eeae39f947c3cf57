"""What the ledger has of the journal, complete up to where the journal ended."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import sqlalchemy as sa

from meshkit.bus import Bus
from meshkit.errors import DependencyUnavailable
from meshkit.time_limit import within
from services.governor import ledger_sums
from services.governor.account import Balance, FirstRecord
from services.governor.budget import Scope
from services.governor.ledger_tables import CHARGE, FIGURES, POSITION, WORK
from services.governor.streams import created_ms
from services.governor.usage_stream import STREAM
from sqlstore.carrier import fits
from sqlstore.database import Database
from sqlstore.positions import BEGINNING, Positions

# For how long a question waits for the ledger to have all that the journal has.
_MOST_BEHIND_SECONDS: Final = 10.0
_LOOK_AGAIN_SECONDS: Final = 0.05
# How many keys one statement asks for.
_CHUNK: Final = 200
_NANOSECONDS_A_MILLI: Final = 1_000_000
_POSITIONS: Final = Positions(POSITION)

_PLACE: Final = (
    sa.select(sa.func.coalesce(sa.func.max(POSITION.c.position), 0))
    .where(POSITION.c.stream == STREAM)
    .scalar_subquery()
)


class Ledger(Protocol):
    """What carries the journal into the ledger, in this process or another one."""

    async def wait_for(self, stream: str, stream_sequence: int) -> None:
        """Returns once every message up to that one is written. The caller limits the time."""
        ...


class LedgerBalances:
    """Answers when the ledger has all that the journal had when it was asked."""

    def __init__(self, bus: Bus, database: Database, ledger: Ledger) -> None:
        self._bus: Final = bus
        self._database: Final = database
        self._ledger: Final = ledger

    async def balance(self, scope: Scope, start: datetime, end: datetime | None) -> Balance:
        """What was settled for a scope from `start` until before `end`.

        Both lie on quarters of an hour.

        Raises:
            DependencyUnavailable: That takes too long, or cannot be found out.
        """
        await self.catch_up()
        # One statement sees one state: all up to that place, and nothing beyond.
        statement = ledger_sums.totals(scope, start, end).add_columns(_PLACE.label("place"))
        row = await self._database.read(lambda on: on.execute(statement).one())
        return Balance(int(row.cost_micros), ledger_sums.usage_of(row), row.place)

    async def first_records(
        self, keys: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], FirstRecord]:
        """What the journal had first of each tenant's key that it had.

        Raises:
            DependencyUnavailable: It takes too long, or cannot be found out.
        """
        await self.catch_up()

        def work(connection: sa.Connection) -> dict[tuple[str, str], FirstRecord]:
            found: dict[tuple[str, str], FirstRecord] = {}
            for start in range(0, len(keys), _CHUNK):
                for row in connection.execute(_with_keys(keys[start : start + _CHUNK])):
                    found[row.tenant, row.key] = FirstRecord(
                        sequence=row.sequence,
                        settled_at=ledger_sums.time_of(row.settled_micros),
                        model=row.model,
                        cost_micros=row.cost_micros,
                        usage=ledger_sums.usage_of(row),
                    )
            return found

        return await self._database.read(work)

    async def catch_up(self) -> None:
        """Returns when the ledger has all that the journal has now.

        Raises:
            DependencyUnavailable: That takes too long, or cannot be found out.
        """
        info = await self._bus.stream_info(STREAM)
        if info is None:
            return
        end = int(info["state"]["last_seq"])
        try:
            with within(_MOST_BEHIND_SECONDS):
                while True:
                    await self._ledger.wait_for(STREAM, end)
                    if await self._is_of(info):
                        return
                    await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        except TimeoutError:
            raise DependencyUnavailable(
                "The ledger has not caught up with the journal in time.",
                metadata={"dependency": "ledger"},
                retry_after_seconds=1.0,
            ) from None

    async def _is_of(self, info: Mapping[str, Any]) -> bool:
        """Whether the ledger's place is one of this stream, and not before its end.

        Where the broker has lost the stream, or the end of it, the place is that of lost
        messages for a moment, until the ledger is carried anew: what comes would be taken for
        charged up to there.
        """
        place = (await self._database.read(_POSITIONS.all)).get(STREAM, BEGINNING)
        end = int(info["state"]["last_seq"])
        is_stored_since = created_ms(info["created"]) <= place.stamp_ns // _NANOSECONDS_A_MILLI
        if is_stored_since and place.position == end:
            return True
        return place.position >= end and await fits(self._bus, STREAM, place)


def _with_keys(keys: Sequence[tuple[str, str]]) -> sa.Executable:
    asked = (CHARGE.c[name] for name in ("tenant", "key", "sequence", "settled_micros", *FIGURES))
    return (
        sa.select(*asked, WORK.c.model)
        .join(WORK, WORK.c.id == CHARGE.c.work_id)
        .where(sa.tuple_(CHARGE.c.tenant, CHARGE.c.key).in_(keys))
    )
