"""What retention asks of the read model in SQLite."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from services.coordinator.read_model_file import ReadModelFile, translated
from services.coordinator.retention import EndedTask, TenantUse

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
# Ended, and its content is there; a parent that has not ended may still ask for it.
_REMOVABLE: Final = """
task.ended_micros > 0 AND task.content AND NOT task.expired
AND NOT EXISTS (
    SELECT 1 FROM task AS parent
    WHERE parent.tenant = task.tenant AND parent.task_id = task.parent_id
    AND parent.ended_micros = 0
)
"""


class SqliteEndedTasks:
    """EndedTasks over the file of the read model."""

    def __init__(self, file: ReadModelFile) -> None:
        self._file = file
        self._database = file.database

    async def tenants(self) -> Sequence[TenantUse]:
        """Every tenant that has tasks."""
        with translated():
            rows = await self._database.execute_fetchall(
                "SELECT tenant, size_bytes, ("
                f"SELECT ended_micros FROM task WHERE task.tenant = use.tenant AND {_REMOVABLE}"
                " ORDER BY ended_micros LIMIT 1) FROM tenant_size AS use ORDER BY tenant"
            )
        return [
            TenantUse(str(row[0]), int(row[1]), None if row[2] is None else _time(row[2]))
            for row in rows
        ]

    async def oldest(
        self, tenant: str, *, before: datetime, letters: bool, after: EndedTask | None, limit: int
    ) -> Sequence[EndedTask]:
        """The next tasks that ended before a time, the first to end first."""
        position = (_micros(after.ended), after.task_id) if after else (0, "")
        no_letters = "" if letters else "AND reason = ''"
        with translated():
            rows = await self._database.execute_fetchall(
                "SELECT task_id, ended_micros, size_bytes FROM task"
                f" WHERE tenant = ? AND {_REMOVABLE}"
                " AND (ended_micros, task_id) > (?, ?) AND ended_micros < ?"
                f" {no_letters} ORDER BY ended_micros, task_id LIMIT ?",
                (tenant, *position, _micros(before), limit),
            )
        return [EndedTask(tenant, str(row[0]), _time(row[1]), int(row[2])) for row in rows]

    async def half_removed(
        self, *, after: tuple[str, str] | None, limit: int
    ) -> Sequence[tuple[str, str]]:
        """Tenant and id of the next tasks that are marked, and may have content still."""
        with translated():
            rows = await self._database.execute_fetchall(
                "SELECT tenant, task_id FROM task WHERE expired AND content"
                " AND (tenant, task_id) > (?, ?) ORDER BY tenant, task_id LIMIT ?",
                (*(after or ("", "")), limit),
            )
        return [(str(row[0]), str(row[1])) for row in rows]

    async def removed(self, tenant: str, task_id: str) -> None:
        """Takes note that a task has no content any more."""
        async with self._file.writing:
            with translated():
                try:
                    await self._database.execute(
                        "UPDATE tenant_size SET size_bytes = size_bytes - coalesce(("
                        "SELECT size_bytes FROM task WHERE tenant = ? AND task_id = ?"
                        " AND NOT expired), 0) WHERE tenant = ?",
                        (tenant, task_id, tenant),
                    )
                    await self._database.execute(
                        "UPDATE task SET content = 0,"
                        " size_bytes = CASE WHEN expired THEN size_bytes ELSE 0 END"
                        " WHERE tenant = ? AND task_id = ?",
                        (tenant, task_id),
                    )
                    await self._database.commit()
                except BaseException:
                    await self._database.rollback()
                    raise


def _micros(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _time(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
