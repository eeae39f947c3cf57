"""A copy in SQLite: one file."""

import asyncio
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc

from meshkit.errors import DependencyUnavailable
from sqlstore.database import Purpose, Work, translated

T = TypeVar("T")

_READERS: Final = 2
# How long a write waits for another process that has the file locked.
_LOCKED_SECONDS: Final = 5.0
# Of memory for pages of the file; the system caches more.
_CACHE_KILOBYTES: Final = 1024
# Prepared, by each connection. Where rows are looked for by their keys, every number of keys makes
# a statement of its own, of 250 bytes a key: the driver by itself would keep 128.
_KEPT_STATEMENTS: Final = 16
_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    # What is lost is carried again, so a write need not reach the disk at once.
    "PRAGMA synchronous = NORMAL",
    f"PRAGMA cache_size = -{_CACHE_KILOBYTES}",
)


class SqliteFile:
    """A Database in one file."""

    def __init__(self, path: Path, purpose: Purpose) -> None:
        self.path: Final = path
        self._purpose: Final = purpose
        self._engine: Final = _engine(path)
        self._readers: Final = ThreadPoolExecutor(_READERS, purpose.name)
        self._writer: Final = ThreadPoolExecutor(1, f"{purpose.name}-writer")

    @property
    def kind(self) -> str:
        """What it is."""
        return "sqlite"

    async def read(self, work: Work[T]) -> T:
        """What `work` finds."""
        return await self._in(self._readers, "BEGIN", work)

    async def write(self, work: Work[T]) -> T:
        """Does all of `work` or nothing, after what was begun before it, here or elsewhere."""
        # Locked from its start: what it reads first is still so when it writes.
        return await self._in(self._writer, "BEGIN IMMEDIATE", work)

    async def lead(self) -> None:
        """Returns at once: nobody else has the file."""

    async def resign(self) -> None:
        """Does nothing: there is nobody else."""

    async def carry(self, work: Work[T]) -> T:
        """As `write`."""
        return await self.write(work)

    async def size_bytes(self) -> int:
        """What it takes on disk."""
        return await self.read(_size_bytes)

    async def close(self) -> None:
        """Ends what is under way, and leaves one whole file."""
        for each in (self._readers, self._writer):
            await asyncio.to_thread(each.shutdown)
        await asyncio.to_thread(self._engine.dispose)

    async def _in(self, threads: ThreadPoolExecutor, begin: str, work: Work[T]) -> T:
        def run() -> T:
            with self._engine.begin() as connection:
                connection.exec_driver_sql(begin)
                return work(connection)

        with translated(self._purpose):
            return await asyncio.get_running_loop().run_in_executor(threads, run)


def is_damage(error: DependencyUnavailable) -> bool:
    """Whether it says that the file is none of SQLite's, or a broken one."""
    cause = error.__cause__
    original = cause.orig if isinstance(cause, exc.DBAPIError) else None
    return isinstance(original, sqlite3.DatabaseError) and original.sqlite_errorcode in (
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CORRUPT,
    )


def files_of(path: Path) -> Sequence[Path]:
    """Those that a database at `path` may consist of."""
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


def _size_bytes(connection: sa.Connection) -> int:
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    return pages * connection.exec_driver_sql("PRAGMA page_size").scalar_one()


def _engine(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": _LOCKED_SECONDS, "cached_statements": _KEPT_STATEMENTS},
        pool_size=_READERS + 1,
        max_overflow=0,
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        # The driver would begin a transaction after tables were made, not before.
        connection.isolation_level = None
        for pragma in _PRAGMAS:
            connection.execute(pragma)

    return engine
