"""Spending by group, from the ledger."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa

from services.governor import spend_zone
from services.governor.ledger_charge import Figures
from services.governor.ledger_sums import micros_of, time_of
from services.governor.ledger_tables import CHARGE, FIGURES, TASK, WORK
from sqlstore.database import Readable

_TIERS: Final = ("", "fast", "balanced", "powerful")


class Dimension(StrEnum):
    """By what spending is grouped."""

    TENANT = "tenant"
    TASK_TYPE = "task_type"
    AGENT = "agent"
    MODEL = "model"
    TIER = "tier"
    DAY = "day"
    HOUR = "hour"


@dataclass(frozen=True, slots=True)
class SpendQuery:
    """What is wanted. Spending is told by the time at which a call ended."""

    # None for all tenants.
    tenant: str | None
    start: datetime
    end: datetime
    group_by: Sequence[Dimension]
    # In which days and hours begin.
    zone: tzinfo


@dataclass(frozen=True, slots=True)
class SpendGroup:
    """What a group comes to."""

    values: Sequence[str]
    figures: Figures
    # Tasks that had calls in the group, and those of them that succeeded.
    tasks: int
    succeeded: int
    # What calls of tasks cost.
    task_cost_micros: int


@dataclass(frozen=True, slots=True)
class SpendPage:
    """Some groups, in the order of their values."""

    groups: Sequence[SpendGroup]
    # All pages rest on the charges up to this one: nothing moves between them.
    last_charge: int
    has_more: bool


class SpendLedger:
    """Asks the ledger."""

    def __init__(self, database: Readable) -> None:
        self._database: Final = database

    async def page(
        self, query: SpendQuery, *, last_charge: int | None, skip: int, limit: int
    ) -> SpendPage:
        """Some groups after the first `skip`.

        Args:
            query: What is wanted.
            last_charge: That of the page before; None for the first page.
            skip: How many groups came before.
            limit: How many groups there may be.

        Raises:
            DependencyUnavailable: The ledger cannot be read.
        """

        def work(connection: sa.Connection) -> SpendPage:
            last = last_charge
            if last is None:
                last = connection.scalar(sa.select(sa.func.max(CHARGE.c.id))) or 0
            question = _Question(connection, query, last)
            rows = question.rows(skip, limit + 1)
            return SpendPage(rows[:limit], last, len(rows) > limit)

        return await self._database.read(work)


class _Question:
    """One statement, and how its rows are read."""

    def __init__(self, connection: sa.Connection, query: SpendQuery, last_charge: int) -> None:
        self._connection: Final = connection
        self._where: Final = [
            CHARGE.c.called_micros >= micros_of(query.start),
            CHARGE.c.called_micros < micros_of(query.end),
            CHARGE.c.id <= last_charge,
        ]
        if query.tenant is not None:
            self._where.append(CHARGE.c.tenant == query.tenant)
        self._columns: Final[list[sa.ColumnElement[Any]]] = []
        self._readers: Final[list[tuple[int, Callable[..., str]]]] = []
        stretches = self._stretches(query)
        for dimension in query.group_by:
            self._add(dimension, stretches)

    def rows(self, skip: int, limit: int) -> list[SpendGroup]:
        charges = CHARGE.join(WORK, WORK.c.id == CHARGE.c.work_id)
        known = charges.outerjoin(TASK, TASK.c.id == CHARGE.c.task_id)
        has_task = CHARGE.c.task_id > 0
        statement = (
            sa.select(
                *self._columns,
                *(sa.func.coalesce(sa.func.sum(CHARGE.c[name]), 0) for name in FIGURES),
                sa.func.count(sa.distinct(sa.case((has_task, CHARGE.c.task_id)))),
                sa.func.count(sa.distinct(sa.case((TASK.c.succeeded, CHARGE.c.task_id)))),
                sa.func.coalesce(sa.func.sum(sa.case((has_task, CHARGE.c.cost_micros))), 0),
            )
            .select_from(known)
            .where(*self._where)
            .group_by(*self._columns)
            .order_by(*self._columns)
            .offset(skip)
            .limit(limit)
        )
        return [self._group(row) for row in self._connection.execute(statement)]

    def _group(self, row: Sequence[Any]) -> SpendGroup:
        place, values = 0, list[str]()
        for width, read in self._readers:
            values.append(read(*row[place : place + width]))
            place += width
        figures = list(map(int, row[place:]))
        tasks, succeeded, task_cost = figures[-3:]
        return SpendGroup(values, Figures(*figures[:-3]), tasks, succeeded, task_cost)

    def _add(self, dimension: Dimension, stretches: Sequence[spend_zone.Stretch]) -> None:
        ahead = _ahead(stretches)
        match dimension:
            case Dimension.DAY:
                self._columns.append(_local(ahead, spend_zone.DAY_MICROS))
                self._readers.append((1, spend_zone.day_text))
            case Dimension.HOUR:
                # An hour that the clock repeats comes twice, one after the other: by its
                # beginning in UTC, where the clock says nothing of which was first.
                local = _local_text(ahead, spend_zone.HOUR_MICROS)
                start = f"{local} * {spend_zone.HOUR_MICROS} - {ahead}"
                self._columns.append(sa.literal_column(start, sa.BigInteger))
                self._columns.append(sa.literal_column(ahead, sa.BigInteger))
                self._readers.append((2, spend_zone.hour_text))
            case Dimension.TIER:
                self._columns.append(WORK.c.tier)
                self._readers.append((1, tier_text))
            case _:
                self._columns.append(WORK.c[dimension.value])
                self._readers.append((1, str))

    def _stretches(self, query: SpendQuery) -> Sequence[spend_zone.Stretch]:
        if query.zone is UTC or not {Dimension.DAY, Dimension.HOUR} & set(query.group_by):
            return [spend_zone.Stretch(0, 0)]
        # The time before the first charge may be long.
        bounds = sa.select(sa.func.min(CHARGE.c.called_micros), sa.func.max(CHARGE.c.called_micros))
        first, last = self._connection.execute(bounds.where(*self._where)).one()
        if first is None:
            return [spend_zone.Stretch(0, 0)]
        return spend_zone.stretches(query.zone, time_of(first), time_of(last))


def tier_text(tier: int) -> str:
    """A tier's name; empty for none."""
    return _TIERS[tier] if 0 <= tier < len(_TIERS) else str(tier)


def _local(ahead: str, unit_micros: int) -> sa.ColumnElement[int]:
    # Said as text: bound values would make the selected and the grouped two expressions.
    return sa.literal_column(_local_text(ahead, unit_micros), sa.BigInteger)


def _local_text(ahead: str, unit_micros: int) -> str:
    return f"(charge.called_micros + {ahead}) / {unit_micros}"


def _ahead(stretches: Sequence[spend_zone.Stretch]) -> str:
    """How far local time is ahead of a charge's, in SQL; of whole numbers alone."""
    *former, last = stretches
    if not former:
        # A sum, since a database takes a bare number for the place of a column.
        return f"({last.ahead_micros} + 0)"
    cases = " ".join(
        f"WHEN charge.called_micros < {after.start_micros} THEN {each.ahead_micros}"
        for each, after in zip(former, stretches[1:], strict=True)
    )
    return f"(CASE {cases} ELSE {last.ahead_micros} END)"
