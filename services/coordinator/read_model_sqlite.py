"""The read model in SQLite."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import aiosqlite

from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshkit import names
from meshkit.ids import Ids
from services.coordinator.read_model import Page, TaskFilter, shortened
from tasklog import fold

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS task (
    tenant TEXT NOT NULL,
    task_id TEXT NOT NULL,
    created_micros INTEGER NOT NULL,
    state INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    first_event BLOB NOT NULL,
    last_event BLOB NOT NULL,
    PRIMARY KEY (tenant, task_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS task_newest ON task (tenant, created_micros DESC, task_id DESC);
CREATE TABLE IF NOT EXISTS task_label (
    tenant TEXT NOT NULL,
    task_id TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (tenant, key, value, task_id)
) WITHOUT ROWID;
"""
# A crash may bring a task's first event after its later ones: each event adds
# what it knows, and the newest one decides how the task stands.
_UPSERT: Final = """
INSERT INTO task VALUES (
    :tenant, :task_id, :created, :state, :lane, :agent, :session, :sequence, :first, :last
)
ON CONFLICT (tenant, task_id) DO UPDATE SET
    agent = CASE WHEN excluded.sequence = 1 THEN excluded.agent ELSE agent END,
    session = CASE WHEN excluded.sequence = 1 THEN excluded.session ELSE session END,
    first_event = CASE WHEN excluded.sequence = 1 THEN excluded.first_event ELSE first_event END,
    state = CASE WHEN excluded.sequence > sequence THEN excluded.state ELSE state END,
    last_event = CASE
        WHEN excluded.sequence > sequence THEN excluded.last_event ELSE last_event
    END,
    sequence = max(excluded.sequence, sequence)
"""


class SqliteReadModel:
    """A ReadModel in one file. Made by `open_sqlite`."""

    def __init__(self, database: aiosqlite.Connection, identity: str) -> None:
        self._database = database
        # Names this copy: a new file starts from the beginning of the log.
        self.identity: Final = identity

    async def apply(self, events: Sequence[TaskEvent]) -> None:
        """Takes over events in one transaction. Repeats change nothing."""
        try:
            for event in events:
                await self._take(event)
            await self._database.commit()
        except BaseException:
            await self._database.rollback()
            raise

    async def _take(self, event: TaskEvent) -> None:
        tenant, task_id = names.TASK.parse(event.task, field="task")
        await self._database.execute(_UPSERT, _row(tenant, task_id, event))
        if event.sequence == 1:
            await self._database.executemany(
                "INSERT OR IGNORE INTO task_label VALUES (?, ?, ?, ?)",
                [
                    (tenant, task_id, key, value)
                    for key, value in event.submitted.task.labels.items()
                ],
            )

    async def list(self, wanted: TaskFilter, *, position: str | None, limit: int) -> Page:
        """One page, newest first."""
        where, values = _conditions(wanted)
        if position is not None:
            created, _, task_id = position.partition("/")
            where.append("(created_micros, task_id) < (?, ?)")
            values += [int(created), task_id]
        rows = await self._database.execute_fetchall(
            "SELECT created_micros, task_id, first_event, last_event FROM task"
            f" WHERE {' AND '.join(where)} ORDER BY created_micros DESC, task_id DESC LIMIT ?",
            (*values, limit + 1),
        )
        found = list(rows)
        page = found[:limit]
        tasks = [
            fold.task_of(TaskEvent.FromString(row[2]), TaskEvent.FromString(row[3])) for row in page
        ]
        more = len(found) > limit
        return Page(tasks, f"{page[-1][0]}/{page[-1][1]}" if more else "")


def _row(tenant: str, task_id: str, event: TaskEvent) -> dict[str, Any]:
    content = shortened(event).SerializeToString()
    first = event.sequence == 1
    return {
        "tenant": tenant,
        "task_id": task_id,
        "created": event.status.create_time.ToMicroseconds(),
        "state": event.status.state,
        "lane": event.status.lane,
        "agent": event.submitted.task.agent if first else "",
        "session": event.submitted.task.session if first else "",
        "sequence": event.sequence,
        "first": content if first else b"",
        "last": content,
    }


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
        values.append(int(wanted.created_after.timestamp() * 1_000_000))
    if wanted.created_before is not None:
        where.append("created_micros < ?")
        values.append(int(wanted.created_before.timestamp() * 1_000_000))
    return where, values


async def open_sqlite(path: Path, ids: Ids, stack: AsyncExitStack) -> SqliteReadModel:
    """Opens or creates the file; it is closed by `stack`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    database = await stack.enter_async_context(aiosqlite.connect(path))
    # It can be rebuilt from the log, so a write need not reach the disk at once.
    await database.execute("PRAGMA journal_mode = WAL")
    await database.execute("PRAGMA synchronous = NORMAL")
    await database.executescript(_SCHEMA)
    rows = list(await database.execute_fetchall("SELECT id FROM identity"))
    if rows:
        return SqliteReadModel(database, str(rows[0][0]))
    identity = ids.new()
    await database.execute("INSERT INTO identity VALUES (?)", (identity,))
    await database.commit()
    return SqliteReadModel(database, identity)
