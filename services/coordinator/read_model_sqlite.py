"""The read model in SQLite."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit import names
from services.coordinator.read_model import (
    DeadLetterFilter,
    Letter,
    LetterPage,
    Page,
    TaskFilter,
)
from services.coordinator.read_model_file import ReadModelFile, translated
from services.coordinator.task_row import Recorded, TaskRow, take
from tasklog import fold, subjects

_COLUMNS: Final = tuple(TaskRow.__slots__)
# How many tasks one statement asks for.
_CHUNK: Final = 200
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class SqliteReadModel:
    """A ReadModel in one file."""

    def __init__(self, file: ReadModelFile) -> None:
        self._file = file
        self._database = file.database

    async def apply(self, entries: Sequence[Recorded], *, position: int = 0) -> None:
        """Takes over events in one transaction, in any order. Repeats change nothing."""
        async with self._file.writing:
            try:
                await self._apply(entries)
                await self._database.execute(
                    "UPDATE copy SET position = max(position, ?)", (position,)
                )
                await self._database.commit()
            except BaseException:
                await self._database.rollback()
                raise

    async def _apply(self, entries: Sequence[Recorded]) -> None:
        before = await self._rows({entry.event.task for entry in entries})
        after = dict(before)
        for entry in entries:
            after[entry.event.task] = take(after.get(entry.event.task), entry)
        changed = [
            (before.get(name), row) for name, row in after.items() if row != before.get(name)
        ]
        await self._write(
            f"INSERT OR REPLACE INTO task ({', '.join(_COLUMNS)})"
            f" VALUES ({', '.join('?' * len(_COLUMNS))})",
            [_values(row) for _, row in changed],
        )
        grown = Counter[str]()
        for old, row in changed:
            grown[row.tenant] += row.size_bytes - (old.size_bytes if old else 0)
        await self._write(
            "INSERT INTO tenant_size VALUES (?, ?) ON CONFLICT (tenant)"
            " DO UPDATE SET size_bytes = size_bytes + excluded.size_bytes",
            list(grown.items()),
        )
        await self._write(
            "DELETE FROM task_label WHERE tenant = ? AND task_id = ? AND key = ? AND value = ?",
            [label for old, row in changed if row.expired and old for label in _labels(old)],
        )
        await self._write(
            "INSERT INTO task_label VALUES (?, ?, ?, ?)",
            [
                label
                for old, row in changed
                if row.first_event and not (old and old.first_event)
                for label in _labels(row)
            ],
        )

    async def _write(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        # Each call goes to another thread and back, which costs more than a row.
        if rows:
            await self._database.executemany(statement, rows)

    async def _rows(self, tasks: Iterable[str]) -> dict[str, TaskRow]:
        wanted = [names.TASK.parse(task, field="task") for task in tasks]
        found: dict[str, TaskRow] = {}
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            rows = await self._database.execute_fetchall(
                f"WITH wanted (tenant, task_id) AS (VALUES {', '.join(['(?, ?)'] * len(chunk))})"
                f" SELECT {', '.join(_COLUMNS)} FROM wanted JOIN task USING (tenant, task_id)",
                [part for key in chunk for part in key],
            )
            for values in rows:
                row = _row(values)
                found[subjects.task_name(row.tenant, row.task_id)] = row
        return found

    async def list(self, wanted: TaskFilter, *, position: str | None, limit: int) -> Page:
        """One page, newest first."""
        where, values = _conditions(wanted)
        if position is not None:
            where.append("(created_micros, task_id) < (?, ?)")
            values += _split(position)
        rows = await self._fetch(
            "SELECT created_micros, task_id, first_event, last_event FROM task"
            f" WHERE {' AND '.join(where)} ORDER BY created_micros DESC, task_id DESC LIMIT ?",
            (*values, limit + 1),
        )
        return Page([_task(row[2], row[3]) for row in rows[:limit]], _following(rows, limit))

    async def dead_letters(
        self, wanted: DeadLetterFilter, *, position: str | None, limit: int
    ) -> LetterPage:
        """One page, the last to come first."""
        where = ["tenant = ?", "reason <> ''"]
        values: list[Any] = [wanted.tenant]
        if wanted.lane:
            where.append("lane = ?")
            values.append(wanted.lane)
        if wanted.reason:
            where.append("reason = ?")
            values.append(wanted.reason)
        if wanted.before is not None:
            where.append("ended_micros < ?")
            values.append(_micros(wanted.before))
        if position is not None:
            where.append("(ended_micros, task_id) < (?, ?)")
            values += _split(position)
        rows = await self._fetch(
            "SELECT ended_micros, task_id, reason, first_event, last_event FROM task"
            f" WHERE {' AND '.join(where)} AND length(first_event) > 0"
            " ORDER BY ended_micros DESC, task_id DESC LIMIT ?",
            (*values, limit + 1),
        )
        letters = [
            Letter(_task(row[3], row[4]), _EPOCH + timedelta(microseconds=row[0]), row[2])
            for row in rows[:limit]
        ]
        return LetterPage(letters, _following(rows, limit))

    async def open_children(self, tenant: str, task_id: str) -> Sequence[str]:
        """Ids of the task's children that have not ended."""
        rows = await self._fetch(
            "SELECT task_id FROM task WHERE tenant = ? AND parent_id = ? AND parent_id <> ''"
            " AND ended_micros = 0 ORDER BY task_id",
            (tenant, task_id),
        )
        return [str(row[0]) for row in rows]

    async def listed(self, tenant: str, task_ids: Sequence[str]) -> Sequence[str]:
        """Those of `task_ids` that are known; no more than a few hundred."""
        if not task_ids:
            return []
        rows = await self._fetch(
            "SELECT task_id FROM task WHERE tenant = ?"
            f" AND task_id IN ({', '.join('?' * len(task_ids))})",
            (tenant, *task_ids),
        )
        return [str(row[0]) for row in rows]

    async def _fetch(self, statement: str, values: Sequence[Any]) -> Sequence[Any]:
        with translated():
            return [*await self._database.execute_fetchall(statement, values)]


def _values(row: TaskRow) -> list[Any]:
    values = {column: getattr(row, column) for column in _COLUMNS}
    values["seen_beyond"] = " ".join(map(str, row.seen_beyond))
    return [values[column] for column in _COLUMNS]


def _row(values: Iterable[Any]) -> TaskRow:
    fields = dict(zip(_COLUMNS, values, strict=True))
    for flag in ("discarded", "expired", "content"):
        fields[flag] = bool(fields[flag])
    fields["seen_beyond"] = tuple(map(int, fields["seen_beyond"].split()))
    return TaskRow(**fields)


def _labels(row: TaskRow) -> list[tuple[str, str, str, str]]:
    """What is filtered by; nothing while the first event is still to come, or once expired."""
    labels = TaskEvent.FromString(row.first_event).submitted.task.labels
    return [(row.tenant, row.task_id, key, value) for key, value in labels.items()]


def _task(first_event: bytes, last_event: bytes) -> Task:
    return fold.task_of(TaskEvent.FromString(first_event), TaskEvent.FromString(last_event))


def _split(position: str) -> tuple[int, str]:
    micros, _, task_id = position.partition("/")
    return int(micros), task_id


def _following(rows: Sequence[Any], limit: int) -> str:
    """The position of the next page, where there are more rows than `limit`."""
    return f"{rows[limit - 1][0]}/{rows[limit - 1][1]}" if len(rows) > limit else ""


def _micros(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _conditions(wanted: TaskFilter) -> tuple[list[str], list[Any]]:
    # A task whose first event is still to come is not shown.
    where: list[str] = ["tenant = ?", "length(first_event) > 0"]
    values: list[Any] = [wanted.tenant]
    if wanted.states:
        where.append(f"state IN ({', '.join('?' * len(wanted.states))})")
        values += wanted.states
    if wanted.agent:
        exact = "@" in wanted.agent
        where.append("agent = ?" if exact else "substr(agent, 1, ?) = ?")
        values += [wanted.agent] if exact else [len(wanted.agent) + 1, f"{wanted.agent}@"]
    if wanted.session:
        where.append("session = ?")
        values.append(wanted.session)
    if wanted.lane:
        where.append("lane = ?")
        values.append(wanted.lane)
    for key, value in wanted.labels.items():
        where.append(
            "EXISTS (SELECT 1 FROM task_label AS label WHERE label.tenant = task.tenant"
            " AND label.key = ? AND label.value = ? AND label.task_id = task.task_id)"
        )
        values += [key, value]
    if wanted.created_after is not None:
        where.append("created_micros >= ?")
        values.append(_micros(wanted.created_after))
    if wanted.created_before is not None:
        where.append("created_micros < ?")
        values.append(_micros(wanted.created_before))
    return where, values
