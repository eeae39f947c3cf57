"""The read model's database in PostgreSQL, shared by any number of coordinators.

A copy is a schema, named by its place: the one in use, and the one that is being
built. Renaming them is the switch.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, Self

import sqlalchemy as sa

from meshkit.errors import Conflict
from meshkit.log import Log
from services.coordinator.read_model_database import PURPOSE
from services.coordinator.read_model_schema import SCHEMA
from sqlstore.postgres_schema import PostgresSchema, SharedSchema

_SCHEMA: Final = "agentmesh_read_model"
_NEXT: Final = f"{_SCHEMA}_next"
_FORMER: Final = f"{_SCHEMA}_former"
_LOCKS: Final = 0x61676D73
_REBUILDING: Final = 2
_OPTIONS: Final[Mapping[str, str]] = {
    # Every question is made for an index. A new table has no statistics, and
    # without them the planner may well think that reading all of it is as good.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_sort": "off",
}


class PostgresCopy(PostgresSchema):
    """A copy that is not in use yet."""

    def __init__(self, url: sa.URL, log: Log, copies: "PostgresCopies") -> None:
        super().__init__(url, _shared(_NEXT), SCHEMA, PURPOSE, log)
        self._copies: Final = copies

    async def lead(self) -> None:
        """Returns at once: who builds it has a lock of its own."""

    @asynccontextmanager
    async def switching(self) -> AsyncGenerator[None]:
        """While it lasts, nothing is carried into the copy in use; at its end this one is."""
        async with self._copies.standing_still() as put_next_in_use:
            yield
            await put_next_in_use()


class PostgresCopies(PostgresSchema):
    """The copy in use, and the one that is being built."""

    def __init__(self, url: sa.URL, log: Log) -> None:
        """Use `open`."""
        super().__init__(url, _shared(_SCHEMA), SCHEMA, PURPOSE, log)

    @classmethod
    async def open(cls, url: sa.URL, log: Log) -> Self:
        """Makes the tables or brings them up to date. Close it at the end.

        A server that is away is waited for later, by who uses it.

        Raises:
            ConfigError: The server will never do what is asked of it as things are.
        """
        copies = cls(url, log)
        await copies.prepare()
        return copies

    @asynccontextmanager
    async def rebuilding(self) -> AsyncGenerator[PostgresCopy]:
        """An empty copy, removed at the end unless it was put in use."""
        copy = PostgresCopy(self._url, self._log, self)
        try:
            if not await copy.take_lock(_REBUILDING):
                raise Conflict("The read model is being built again already.")
            await self.write(_drop_others)
            await copy.write(copy.make)
            yield copy
            await self.write(_drop_others)
        finally:
            await copy.close()

    @asynccontextmanager
    async def standing_still(self) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
        """While it lasts, nothing is carried into the copy in use.

        Yields what puts the next copy in its place.
        """
        connection = await self._in(self._threads, self._stand_still)

        async def put_next_in_use() -> None:
            await self._in(self._threads, lambda: _put_next_in_use(connection))

        try:
            yield put_next_in_use
        finally:
            await self._in(self._threads, connection.close)

    def _stand_still(self) -> sa.Connection:
        connection = self._engine.connect()
        try:
            # Who reads goes on.
            connection.execute(sa.text("LOCK TABLE copy_position IN EXCLUSIVE MODE"))
        except BaseException:
            connection.close()
            raise
        return connection


def _shared(name: str) -> SharedSchema:
    return SharedSchema(name, "agentmesh-coordinator", _LOCKS, _OPTIONS)


def _drop_others(connection: sa.Connection) -> None:
    """Removes what is not in use."""
    for schema in (_NEXT, _FORMER):
        connection.execute(sa.schema.DropSchema(schema, cascade=True, if_exists=True))


def _put_next_in_use(connection: sa.Connection) -> None:
    for former, new in ((_SCHEMA, _FORMER), (_NEXT, _SCHEMA)):
        connection.execute(sa.text(f"ALTER SCHEMA {former} RENAME TO {new}"))
    connection.commit()
