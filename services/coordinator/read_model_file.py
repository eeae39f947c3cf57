"""The file that the SQLite read model lives in."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiosqlite

from meshkit.errors import DependencyUnavailable
from meshkit.ids import Ids

# Whether a copy of that identity and position goes on where the log is.
Fits = Callable[[str, int], Awaitable[bool]]
# Raise it with every change of the schema: the file is then built again from the log.
_VERSION: Final = 3
# In place of a version.
_EMPTY: Final = -1
_DAMAGED: Final = -2
_SCHEMA: Final = """
CREATE TABLE copy (identity TEXT NOT NULL, position INTEGER NOT NULL);
CREATE TABLE task (
    tenant TEXT NOT NULL,
    task_id TEXT NOT NULL,
    created_micros INTEGER NOT NULL,
    parent_id TEXT NOT NULL,
    state INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    ended_micros INTEGER NOT NULL,
    reason TEXT NOT NULL,
    discarded INTEGER NOT NULL,
    expired INTEGER NOT NULL,
    content INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    seen_up_to INTEGER NOT NULL,
    seen_beyond TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    stream_sequence INTEGER NOT NULL,
    first_event BLOB NOT NULL,
    last_event BLOB NOT NULL,
    PRIMARY KEY (tenant, task_id)
) WITHOUT ROWID;
CREATE INDEX task_newest ON task (tenant, created_micros DESC, task_id DESC);
CREATE INDEX task_children ON task (tenant, parent_id, ended_micros) WHERE parent_id <> '';
CREATE INDEX task_dead ON task (tenant, ended_micros DESC, task_id DESC)
    WHERE reason <> '';
CREATE INDEX task_oldest_ended ON task (tenant, ended_micros, task_id)
    WHERE ended_micros > 0 AND content AND NOT expired;
CREATE INDEX task_half_removed ON task (tenant, task_id) WHERE expired AND content;
CREATE TABLE task_label (
    tenant TEXT NOT NULL,
    task_id TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (tenant, key, value, task_id)
) WITHOUT ROWID;
CREATE TABLE tenant_size (
    tenant TEXT PRIMARY KEY,
    size_bytes INTEGER NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class ReadModelFile:
    """An open file of the present version. Made by `open_file`."""

    database: aiosqlite.Connection
    # Names this copy: a new file starts from the beginning of the log.
    identity: str
    # Held by who writes, so that no commit takes half of another's transaction with it.
    writing: asyncio.Lock


async def open_file(
    path: Path, ids: Ids, stack: AsyncExitStack, *, fits: Fits | None = None
) -> ReadModelFile:
    """Opens or creates the file; it is closed by `stack`.

    A file that is damaged, of another version or does not fit the log is replaced
    by an empty one with a new identity.

    Args:
        path: Where it is.
        ids: Where a new identity comes from.
        stack: Closes it.
        fits: Told the identity of the copy, and the last stream sequence that was
            carried into it; whether what is in the log goes on there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    database = await aiosqlite.connect(path)
    if not await _is_usable(database, fits):
        await database.close()
        # A process that still has the file open keeps it to itself.
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        database = await aiosqlite.connect(path)
    stack.push_async_callback(database.close)
    # It can be rebuilt from the log, so a write need not reach the disk at once:
    # after a power cut `fits` tells that some are missing.
    await database.execute("PRAGMA journal_mode = WAL")
    await database.execute("PRAGMA synchronous = NORMAL")
    if await _version(database) == _EMPTY:
        # All of it or nothing: a crash leaves a file that is begun again.
        await database.executescript(
            f"BEGIN; {_SCHEMA} INSERT INTO copy VALUES ('{ids.new()}', 0);"
            f" PRAGMA user_version = {_VERSION}; COMMIT;"
        )
    (row,) = await database.execute_fetchall("SELECT identity FROM copy")
    return ReadModelFile(database, str(row[0]), asyncio.Lock())


@contextmanager
def translated() -> Generator[None]:
    """Has a file that is locked, full or damaged raise DependencyUnavailable."""
    try:
        yield
    except sqlite3.Error as error:
        raise DependencyUnavailable(
            f"Failed to use the read model: {error}.", metadata={"dependency": "read_model"}
        ) from error


async def _is_usable(database: aiosqlite.Connection, fits: Fits | None) -> bool:
    version = await _version(database)
    if version != _VERSION or fits is None:
        return version in (_VERSION, _EMPTY)
    (row,) = await database.execute_fetchall("SELECT identity, position FROM copy")
    return await fits(str(row[0]), int(row[1]))


async def _version(database: aiosqlite.Connection) -> int:
    try:
        (row,) = await database.execute_fetchall(
            "SELECT user_version, (SELECT count(*) FROM sqlite_schema) FROM pragma_user_version"
        )
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return _DAMAGED
        raise
    version, tables = row
    return int(version) if tables else _EMPTY
