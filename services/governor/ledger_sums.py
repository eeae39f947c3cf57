"""What the ledger holds in sum, within a transaction."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from services.governor.account import Usage
from services.governor.budget import Scope, ScopeKind
from services.governor.ledger_tables import (
    CHARGE,
    FIGURES,
    QUARTER_MICROS,
    SCOPE_TOTAL,
    TASK,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_HOUR: Final = timedelta(hours=1)
_COSTS: Final = SCOPE_TOTAL.c.cost_micros
# As the indexes say it, with values and not with places for them, or they are of no use.
_HAS_SESSION: Final = CHARGE.c.session != sa.literal_column("''")
_HAS_TASK: Final = CHARGE.c.task_id > sa.literal_column("0")


class Sums:
    """Asks one connection; what was written in its transaction is included.

    Times that bound a sum lie on quarters of an hour, as the beginnings of days do
    in every time zone.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection: Final = connection

    def spent(self, scope: Scope, start: datetime, end: datetime | None) -> int:
        """Settled for the scope from `start` until before `end`, in micro-USD."""
        statement = totals(scope, start, end)
        return int(self._connection.execute(statement).one().cost_micros)

    def by_hour(self, tenant: str, hours: Sequence[datetime]) -> Sequence[int]:
        """Settled by the tenant in each of these hours, given by their beginnings."""
        if not hours:
            return []
        per_hour = _HOUR // (QUARTER_MICROS * _MICROSECOND)
        firsts = [quarter_of(hour) for hour in hours]
        # They may be days apart, and what lies between them is not to be read.
        wanted = [first + each for first in firsts for each in range(per_hour)]
        rows = self._connection.execute(
            sa.select(SCOPE_TOTAL.c.quarter, _COSTS).where(
                SCOPE_TOTAL.c.kind == ScopeKind.TENANT.value,
                SCOPE_TOTAL.c.tenant == tenant,
                SCOPE_TOTAL.c.subject == "",
                SCOPE_TOTAL.c.quarter.in_(wanted),
            )
        )
        costs = {row.quarter: row.cost_micros for row in rows}
        return [sum(costs.get(first + each, 0) for each in range(per_hour)) for first in firsts]

    def by_quarter(self, scope: Scope, start: datetime, end: datetime) -> dict[int, int]:
        """What was settled in each quarter of an hour, by its number; none where nothing was."""
        rows = self._connection.execute(
            sa.select(SCOPE_TOTAL.c.quarter, _COSTS).where(*_rows_of(scope, start, end))
        )
        return {row.quarter: row.cost_micros for row in rows}

    def first_time(self, tenant: str) -> datetime | None:
        """When the tenant first spent anything, to the quarter of an hour."""
        first = self._connection.scalar(
            sa.select(sa.func.min(SCOPE_TOTAL.c.quarter)).where(
                SCOPE_TOTAL.c.kind == ScopeKind.TENANT.value,
                SCOPE_TOTAL.c.tenant == tenant,
                SCOPE_TOTAL.c.subject == "",
                _COSTS > 0,
            )
        )
        return None if first is None else _EPOCH + first * QUARTER_MICROS * _MICROSECOND


def totals(scope: Scope, start: datetime, end: datetime | None) -> sa.Select[Any]:
    """A statement that gives one row: the sum of each figure."""
    if scope.kind in (ScopeKind.SESSION, ScopeKind.TASK):
        return sa.select(*_sums(CHARGE)).where(*_charges_of(scope, start, end))
    return sa.select(*_sums(SCOPE_TOTAL)).where(*_rows_of(scope, start, end))


def usage_of(row: Any) -> Usage:
    """What `totals` found, but the cost."""
    return Usage(**{name: int(getattr(row, name)) for name in Usage._fields})


def quarter_of(time: datetime) -> int:
    """The number of the quarter of an hour in which a time lies."""
    return micros_of(time) // QUARTER_MICROS


def micros_of(time: datetime) -> int:
    """A time in microseconds since 1970."""
    return (time - _EPOCH) // _MICROSECOND


def time_of(micros: int) -> datetime:
    """The time that is so many microseconds after the beginning of 1970."""
    return _EPOCH + micros * _MICROSECOND


def _sums(table: sa.Table) -> list[sa.Label[Any]]:
    return [sa.func.coalesce(sa.func.sum(table.c[name]), 0).label(name) for name in FIGURES]


def _rows_of(scope: Scope, start: datetime, end: datetime | None) -> list[sa.ColumnElement[bool]]:
    conditions = [
        SCOPE_TOTAL.c.kind == scope.kind.value,
        SCOPE_TOTAL.c.tenant == scope.tenant,
        SCOPE_TOTAL.c.subject == scope.subject,
        SCOPE_TOTAL.c.quarter >= quarter_of(start),
    ]
    if end is not None:
        conditions.append(SCOPE_TOTAL.c.quarter < quarter_of(end))
    return conditions


def _charges_of(
    scope: Scope, start: datetime, end: datetime | None
) -> list[sa.ColumnElement[bool]]:
    conditions = [CHARGE.c.settled_micros >= micros_of(start)]
    if end is not None:
        conditions.append(CHARGE.c.settled_micros < micros_of(end))
    if scope.kind is ScopeKind.SESSION:
        of_session = CHARGE.c.tenant == scope.tenant, CHARGE.c.session == scope.subject
        return [*of_session, _HAS_SESSION, *conditions]
    of_task = TASK.c.tenant == scope.tenant, TASK.c.name == scope.subject
    number = sa.select(TASK.c.id).where(*of_task).scalar_subquery()
    return [CHARGE.c.task_id == number, _HAS_TASK, *conditions]
