"""A database for tests of alerts: the table of alerts and nothing else, in SQLite or PostgreSQL."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import sqlalchemy as sa

from services.governor.alert_tables import METADATA

T = TypeVar("T")


class AlertDatabase:
    """A Database, as the store of alerts needs one."""

    def __init__(self, url: str | sa.URL) -> None:
        """Makes the table where it is not there."""
        self._engine: Final = sa.create_engine(url)
        METADATA.create_all(self._engine)

    @classmethod
    def sqlite(cls, path: Path) -> "AlertDatabase":
        """In a file."""
        return cls(sa.URL.create("sqlite", database=str(path)))

    @classmethod
    def postgresql(cls, url: str) -> "AlertDatabase":
        """On a server."""
        return cls(sa.make_url(url).set(drivername="postgresql+psycopg"))

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """What `work` finds."""
        return await self.write(work)

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Does all of `work` or nothing."""

        def run() -> T:
            with self._engine.begin() as connection:
                return work(connection)

        return await asyncio.to_thread(run)

    def close(self) -> None:
        """Ends its connections."""
        self._engine.dispose()
