"""What retention asks of the read model in SQL."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from services.coordinator.read_model_tables import IS_HALF_REMOVED, IS_REMOVABLE, SIZE, TASK
from services.coordinator.retention import EndedTask, TenantUse
from sqlstore.database import Database

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_PARENT: Final = TASK.alias("parent")
# A parent that has not ended may still ask for its child.
_PARENT_IS_OPEN: Final = (
    sa.select(sa.literal(1))
    .where(_PARENT.c.tenant == TASK.c.tenant, _PARENT.c.task_id == TASK.c.parent_id)
    .where(_PARENT.c.ended_micros == 0)
    .exists()
)
_ENDED: Final = sa.tuple_(TASK.c.ended_micros, TASK.c.task_id)


class SqlEndedTasks:
    """EndedTasks over the tables of the read model."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tenants(self) -> Sequence[TenantUse]:
        """Every tenant that has tasks."""
        oldest = (
            sa.select(TASK.c.ended_micros)
            .where(TASK.c.tenant == SIZE.c.tenant, sa.text(IS_REMOVABLE), ~_PARENT_IS_OPEN)
            .order_by(TASK.c.ended_micros)
            .limit(1)
            .correlate(SIZE)
            .scalar_subquery()
        )
        statement = sa.select(SIZE.c.tenant, SIZE.c.size_bytes, oldest).order_by(SIZE.c.tenant)
        rows = await self._database.read(lambda on: on.execute(statement).all())
        return [
            TenantUse(tenant, size_bytes, None if ended is None else _time(ended))
            for tenant, size_bytes, ended in rows
        ]

    async def oldest(
        self, tenant: str, *, before: datetime, letters: bool, after: EndedTask | None, limit: int
    ) -> Sequence[EndedTask]:
        """The next tasks that ended before a time, the first to end first."""
        position = (_micros(after.ended), after.task_id) if after else (0, "")
        statement = (
            sa.select(TASK.c.task_id, TASK.c.ended_micros, TASK.c.size_bytes)
            .where(TASK.c.tenant == tenant, sa.text(IS_REMOVABLE), ~_PARENT_IS_OPEN)
            .where(sa.tuple_(*position) < _ENDED, TASK.c.ended_micros < _micros(before))
            .order_by(TASK.c.ended_micros, TASK.c.task_id)
            .limit(limit)
        )
        if not letters:
            statement = statement.where(TASK.c.reason == "")
        rows = await self._database.read(lambda on: on.execute(statement).all())
        return [
            EndedTask(tenant, row.task_id, _time(row.ended_micros), row.size_bytes) for row in rows
        ]

    async def half_removed(
        self, *, after: tuple[str, str] | None, limit: int
    ) -> Sequence[tuple[str, str]]:
        """Tenant and id of the next tasks that are marked, and may have content still."""
        key = sa.tuple_(TASK.c.tenant, TASK.c.task_id)
        statement = (
            sa.select(TASK.c.tenant, TASK.c.task_id)
            .where(sa.text(IS_HALF_REMOVED), key > sa.tuple_(*(after or ("", ""))))
            .order_by(TASK.c.tenant, TASK.c.task_id)
            .limit(limit)
        )
        rows = await self._database.read(lambda on: on.execute(statement).all())
        return [(row.tenant, row.task_id) for row in rows]

    async def removed(self, tenant: str, task_id: str) -> None:
        """Takes note that a task has no content any more."""
        await self._database.write(lambda connection: _removed(connection, tenant, task_id))


def _removed(connection: sa.Connection, tenant: str, task_id: str) -> None:
    this = (TASK.c.tenant == tenant) & (TASK.c.task_id == task_id)
    # The task before its tenant's size: who carries events locks them in this order, too.
    row = connection.execute(
        sa.select(TASK.c.expired, TASK.c.size_bytes).where(this).with_for_update()
    ).one_or_none()
    if row is None:
        return
    left = row.size_bytes if row.expired else 0
    connection.execute(sa.update(TASK).where(this).values(content=False, size_bytes=left))
    connection.execute(
        sa.update(SIZE)
        .where(SIZE.c.tenant == tenant)
        .values(size_bytes=SIZE.c.size_bytes - (row.size_bytes - left))
    )


def _micros(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _time(micros: int) -> datetime:
    return _EPOCH + micros * _MICROSECOND
