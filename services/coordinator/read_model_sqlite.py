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


class SqliteReadModel:
    """A ReadModel in one file. Made by `open_sqlite`."""

    def __init__(self, database: aiosqlite.Connection, identity: str) -> None:
        self._database = database
        # Names this copy: a new file starts from the beginning of the log.
        self.identity: Final = identity

    async def apply(self, events: Sequence[TaskEvent]) -> None:
        """Takes over events in one transaction. Repeats change nothing."""
        for event in events:
            tenant, task_id = names.TASK.parse(event.task, field="task")
            short = shortened(event)
            if event.sequence == 1:
                await self._insert(tenant, task_id, short)
            else:
                await self._database.execute(
                    "UPDATE task SET state = ?, sequence = ?, last_event = ?"
                    " WHERE tenant = ? AND task_id = ? AND sequence < ?",
                    (
                        event.status.state,
                        event.sequence,
                        short.SerializeToString(),
                        tenant,
                        task_id,
                        event.sequence,
                    ),
                )
        await self._database.commit()

    async def _insert(self, tenant: str, task_id: str, event: TaskEvent) -> None:
        task = event.submitted.task
        content = event.SerializeToString()
        await self._database.execute(
            "INSERT OR IGNORE INTO task VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?)",
            (
                tenant,
                task_id,
                task.create_time.ToMicroseconds(),
                event.status.state,
                task.lane,
                task.agent,
                task.session,
                content,
                content,
            ),
        )
        await self._database.executemany(
            "INSERT OR IGNORE INTO task_label VALUES (?, ?, ?, ?)",
            [(tenant, task_id, key, value) for key, value in task.labels.items()],
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


def _conditions(wanted: TaskFilter) -> tuple[list[str], list[Any]]:
    where: list[str] = ["tenant = ?"]
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
