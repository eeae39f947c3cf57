"""Where the ledger is: a file of SQLite, or a schema of PostgreSQL."""

import asyncio
import fcntl
import os
import time
from pathlib import Path
from typing import Final, Self

import sqlalchemy as sa

from meshkit.config import ConfigError
from meshkit.log import Log
from services.governor.ledger_schema import SCHEMA
from sqlstore.database import RESIGNED_SECONDS, Purpose
from sqlstore.postgres_schema import PostgresSchema, SharedSchema, parse_address
from sqlstore.schema import NewerSchema
from sqlstore.sqlite_file import SqliteFile

PURPOSE: Final = Purpose("ledger", "the ledger", "governor.ledger_database")
_SHARED: Final = SharedSchema("agentmesh_ledger", "agentmesh-governor", 0x61676D6C)
# How soon another process of the same machine follows when the one that carries is gone.
_FOLLOW_SECONDS: Final = 1.0


class LedgerFile(SqliteFile):
    """A file that several governors of one machine may share.

    The one that has the lock of the file beside it carries; the system gives
    the lock back when that process ends.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, PURPOSE)
        self._lock_path: Final = path.with_name(f"{path.name}.leader")
        self._lock: int | None = None
        # Not to lead before, by the monotonic clock.
        self._leads_from = 0.0

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Makes the tables or brings them up to date. Close it at the end.

        Raises:
            ConfigError: A later version made the tables.
        """
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        file = cls(path)
        try:
            # One after another: several processes may start at once.
            with path.with_name(f"{path.name}.making").open("w") as making:
                await asyncio.to_thread(fcntl.flock, making, fcntl.LOCK_EX)
                await file.write(SCHEMA.upgrade)
        except BaseException as error:
            await file.close()
            if isinstance(error, NewerSchema):
                raise ConfigError(
                    f"{PURPOSE.setting}: a later version made {path}; run that version"
                ) from None
            raise
        return file

    async def lead(self) -> None:
        """Returns once this process carries; waits for the one that does to end."""
        while True:
            if time.monotonic() >= self._leads_from and self._has_lock():
                return
            await asyncio.sleep(_FOLLOW_SECONDS)

    async def resign(self) -> None:
        """Gives the lock to who waits for it; this process may lead again later."""
        self._leads_from = time.monotonic() + RESIGNED_SECONDS
        self._give_back()

    async def close(self) -> None:
        """Ends what is under way, and gives the lock back."""
        await super().close()
        self._give_back()

    def _give_back(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _has_lock(self) -> bool:
        if self._lock is None:
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                return False
            self._lock = lock
        return True


async def open_ledger(address: str, *, folder: Path, log: Log) -> LedgerFile | PostgresSchema:
    """The ledger at an address, or in a folder where that is empty. Close it at the end.

    A server that is away is waited for later, by who uses it.

    Raises:
        ConfigError: It can never be used as things are.
    """
    if not address:
        return await LedgerFile.open(folder / "ledger.sqlite")
    url: sa.URL = parse_address(address, setting=PURPOSE.setting)
    schema = PostgresSchema(url, _SHARED, SCHEMA, PURPOSE, log)
    await schema.prepare()
    return schema
