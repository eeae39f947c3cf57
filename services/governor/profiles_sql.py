"""Profiles of task types from the ledger."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

import sqlalchemy as sa

from services.governor.ledger_tables import CHARGE, WORK
from services.governor.profiles import (
    MOST_SAMPLES,
    News,
    Profile,
    Sample,
    WorkKey,
    profile_of,
)
from sqlstore.database import Readable

# Who asks for all recent work gets that of so many charges.
_RECENT_CHARGES: Final = 100_000
# Agents and models among which a profile's calls are sought.
_MOST_WORKS: Final = 1_000

_KEY: Final = (WORK.c.tenant, WORK.c.task_type, WORK.c.tier)
_SAMPLE: Final = (CHARGE.c.input_tokens, CHARGE.c.output_tokens, CHARGE.c.cost_micros)


class SqlProfiles:
    """A ProfileSource: each profile is of the latest calls."""

    def __init__(self, database: Readable) -> None:
        self._database: Final = database

    async def changed(self, since_charge: int) -> News:
        """Profiles of the work that was charged after that charge."""

        def work(connection: sa.Connection) -> News:
            last = connection.scalar(sa.select(sa.func.max(CHARGE.c.id))) or 0
            if last <= since_charge:
                return News((), last)
            first = max(since_charge, last - _RECENT_CHARGES)
            works = sa.select(CHARGE.c.work_id).where(CHARGE.c.id > first).distinct()
            keys = connection.execute(
                sa.select(*_KEY).where(WORK.c.id.in_(works)).distinct().order_by(*_KEY)
            )
            return News([_profile(connection, WorkKey(*key)) for key in keys.all()], last)

        return await self._database.read(work)

    async def of_task_type(self, tenant: str, task_type: str) -> Sequence[Profile]:
        """One for each tier that the task type used, in their order."""
        statement = (
            sa.select(*_KEY)
            .where(WORK.c.tenant == tenant, WORK.c.task_type == task_type)
            .distinct()
            .order_by(*_KEY)
        )
        return await self._database.read(lambda on: _profiles(on, statement))

    async def page(
        self, tenant: str, *, after: tuple[str, int] | None, limit: int
    ) -> Sequence[Profile]:
        """Some of the tenant's, in order of task type and tier, after that of the last page."""
        statement = sa.select(*_KEY).where(WORK.c.tenant == tenant).distinct().order_by(*_KEY)
        if after is not None:
            place = sa.tuple_(WORK.c.task_type, WORK.c.tier)
            statement = statement.where(place > sa.tuple_(*after))
        return await self._database.read(lambda on: _profiles(on, statement.limit(limit)))


def _profiles(connection: sa.Connection, keys: sa.Select[Any, Any, Any]) -> list[Profile]:
    return [_profile(connection, WorkKey(*key)) for key in connection.execute(keys).all()]


def _profile(connection: sa.Connection, key: WorkKey) -> Profile:
    works = connection.scalars(
        sa.select(WORK.c.id)
        .where(*(column == value for column, value in zip(_KEY, key, strict=True)))
        .order_by(WORK.c.id.desc())
        .limit(_MOST_WORKS)
    ).all()
    latest: list[tuple[int, Sample]] = []
    for work in works:
        rows = connection.execute(
            sa.select(CHARGE.c.id, *_SAMPLE)
            .where(CHARGE.c.work_id == work)
            .order_by(CHARGE.c.id.desc())
            .limit(MOST_SAMPLES)
        )
        latest += ((number, Sample(*figures)) for number, *figures in rows)
    latest.sort(key=itemgetter(0), reverse=True)
    return profile_of(key, [sample for _, sample in latest[:MOST_SAMPLES]])
