"""Alerts in the ledger's database: each is there once, and with its sequence once it is told."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from services.governor.alert import Alert, Kind
from services.governor.alert_tables import ALERT
from services.governor.alert_teller import Told

T = TypeVar("T")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_INSERT: Final[Mapping[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_UNTOLD: Final = 0
# How many ids one statement asks for.
_CHUNK: Final = 500


class Database(Protocol):
    """The ledger's database. Both methods raise DependencyUnavailable while it is away."""

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """What `work` finds."""
        ...

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Does all of `work` or nothing. Anybody may, at any time."""
        ...


def record(connection: sa.Connection, alerts: Sequence[Alert]) -> int:
    """Adds the alerts that are not there yet, in the connection's transaction; how many."""
    known = _known(connection, [alert.id for alert in alerts])
    new = {alert.id: alert for alert in alerts if alert.id not in known}
    if new:
        first = (connection.scalar(sa.select(sa.func.max(ALERT.c.found))) or 0) + 1
        insert = _INSERT[connection.dialect.name](ALERT).on_conflict_do_nothing()
        rows = [_row(each, _UNTOLD, number) for number, each in enumerate(new.values(), first)]
        connection.execute(insert, rows)
    return len(new)


class SqlAlerts:
    """AlertStore over the table of alerts."""

    def __init__(self, database: Database) -> None:
        self._database: Final = database

    async def untold(self, limit: int) -> Sequence[Alert]:
        """The first found of those that are yet to be told."""
        statement = (
            sa.select(ALERT).where(ALERT.c.sequence == _UNTOLD).order_by(ALERT.c.found).limit(limit)
        )
        rows = await self._database.read(lambda on: on.execute(statement).all())
        return [_alert(row) for row in rows]

    async def last_sequence(self) -> int:
        """The highest sequence of all that are told, 0 for none."""
        statement = sa.select(sa.func.max(ALERT.c.sequence))
        return await self._database.read(lambda on: on.scalar(statement)) or 0

    async def mark(self, told: Sequence[Told]) -> None:
        """Takes note of alerts that are told; adds those that are not there."""
        rows = [_row(each.alert, each.sequence, 0) for each in told]

        def work(connection: sa.Connection) -> None:
            insert = _INSERT[connection.dialect.name](ALERT)
            connection.execute(
                insert.on_conflict_do_update(
                    index_elements=["id"],
                    set_={"sequence": insert.excluded.sequence},
                    where=ALERT.c.sequence == _UNTOLD,
                ),
                rows,
            )

        if rows:
            await self._database.write(work)


def _known(connection: sa.Connection, ids: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(ids), _CHUNK):
        among = ALERT.c.id.in_(ids[start : start + _CHUNK])
        found.update(connection.scalars(sa.select(ALERT.c.id).where(among)))
    return found


def _row(alert: Alert, sequence: int, found: int) -> dict[str, Any]:
    return {
        "id": alert.id,
        "sequence": sequence,
        "found": found,
        "tenant": alert.tenant,
        "budget": alert.budget,
        "kind": alert.kind,
        "text": alert.text,
        "time_micros": (alert.time - _EPOCH) // _MICROSECOND,
        "spent_micros": alert.spent_micros,
        "limit_micros": alert.limit_micros,
    }


def _alert(row: sa.Row[Any]) -> Alert:
    return Alert(
        id=row.id,
        tenant=row.tenant,
        budget=row.budget,
        kind=Kind(row.kind),
        text=row.text,
        time=_EPOCH + row.time_micros * _MICROSECOND,
        spent_micros=row.spent_micros,
        limit_micros=row.limit_micros,
    )
