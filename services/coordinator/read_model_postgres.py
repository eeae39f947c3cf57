"""The read model's database in PostgreSQL, shared by any number of coordinators.

A copy is a schema, named by its place: the one in use, and the one that is being
built. Renaming them is the switch. Who holds the leader's lock carries events;
when it dies, its connection ends and another one gets the lock.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from meshkit.config import ConfigError
from meshkit.errors import Conflict, DependencyUnavailable
from meshkit.log import Log
from services.coordinator import read_model_schema
from services.coordinator.read_model_database import Work, translated
from services.coordinator.read_model_schema import NewerSchema

T = TypeVar("T")

SETTING: Final = "coordinator.read_model"
_SCHEMA: Final = "agentmesh_read_model"
_NEXT: Final = f"{_SCHEMA}_next"
_FORMER: Final = f"{_SCHEMA}_former"
_READERS: Final = 4
# Beside those: the leader's, and one for a switch.
_CONNECTIONS: Final = _READERS + 2
# Locks of a database are told apart by numbers.
_LOCKS: Final = 0x61676D73
_LEADING, _REBUILDING, _MIGRATING = 1, 2, 3
# How soon another process follows when the one that carries events is gone.
_FOLLOW_SECONDS: Final = 2.0
# What a client and a server do about the other one's sudden death.
_CONNECTING: Final[Mapping[str, Any]] = {
    "application_name": "agentmesh-coordinator",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "tcp_user_timeout": 20_000,
}
_OPTIONS: Final[Mapping[str, str]] = {
    # Of one statement, in milliseconds: nobody waits for long.
    "statement_timeout": "20000",
    # A process that hangs in a transaction keeps the others out no longer.
    "idle_in_transaction_session_timeout": "60000",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    # Every question is made for an index. A new table has no statistics, and
    # without them the planner may well think that reading all of it is as good.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_sort": "off",
    "jit": "off",
}
# What a server says to who will never be let in as things are.
_REFUSALS: Final = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
    "permission denied",
    "is not permitted to log in",
)


def parse_address(text: str) -> sa.URL:
    """The address that the setting gives.

    Raises:
        ConfigError: It is none of PostgreSQL. It may hold a password, so the text does not
            repeat it.
    """
    try:
        url = sa.make_url(text)
    except (exc.ArgumentError, ValueError):
        url = sa.URL.create("none")
    if url.drivername not in ("postgresql", "postgres") or not url.host or not url.database:
        raise ConfigError(
            f"{SETTING}: must be empty, for SQLite, or like postgresql://USER@HOST:PORT/DATABASE"
        )
    return url.set(drivername="postgresql+psycopg")


class PostgresSchema:
    """A Database in one schema."""

    def __init__(self, url: sa.URL, schema: str) -> None:
        options = " ".join(
            f"-c {name}={value}" for name, value in {"search_path": schema, **_OPTIONS}.items()
        )
        self._engine: Final = sa.create_engine(
            url,
            connect_args={"options": options, **_CONNECTING},
            # Values by their order, as SQLite has them.
            paramstyle="format",
            pool_size=_CONNECTIONS,
            max_overflow=0,
            # A server that was started again has forgotten the connections of before.
            pool_pre_ping=True,
        )
        self._threads: Final = ThreadPoolExecutor(_READERS, "read-model")
        # The leader's connection, which holds the lock; used by one thread alone.
        self._leading: sa.Connection | None = None
        self._leader: Final = ThreadPoolExecutor(1, "read-model-leader")

    @property
    def kind(self) -> str:
        """What it is."""
        return "postgresql"

    async def read(self, work: Work[T]) -> T:
        """What `work` finds."""
        return await self._in(self._threads, lambda: self._once(work))

    async def write(self, work: Work[T]) -> T:
        """Does all of `work` or nothing."""
        return await self.read(work)

    async def carry(self, work: Work[T]) -> T:
        """As `write`, on the connection that holds the lock."""
        return await self._in(self._leader, lambda: self._as_leader(work))

    async def take_lock(self, lock: int) -> bool:
        """Whether this process has the lock now; it keeps it until something fails."""
        return await self._in(self._leader, lambda: self._lock(lock))

    async def close(self) -> None:
        """Ends what is under way, and gives the lock back."""
        await asyncio.get_running_loop().run_in_executor(self._leader, self._give_back)
        for each in (self._threads, self._leader):
            await asyncio.to_thread(each.shutdown)
        await asyncio.to_thread(self._engine.dispose)

    async def _in(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        with translated():
            return await asyncio.get_running_loop().run_in_executor(threads, work)

    def _once(self, work: Work[T]) -> T:
        with self._engine.begin() as connection:
            return work(connection)

    def _as_leader(self, work: Work[T]) -> T:
        connection = self._leading
        if connection is None:
            raise DependencyUnavailable(
                "This process does not carry events into the read model any more.",
                metadata={"dependency": "read_model"},
            )
        try:
            with connection.begin():
                return work(connection)
        except exc.DBAPIError:
            # Whatever it was, another process may fare better.
            self._let_go()
            raise

    def _lock(self, lock: int) -> bool:
        if self._leading is not None:
            return True
        self._leading = self._engine.connect()
        taking = sa.select(sa.func.pg_try_advisory_lock(_LOCKS, lock))
        has_it = False
        try:
            with self._leading.begin():
                has_it = bool(self._leading.scalar(taking))
        finally:
            if not has_it:
                self._let_go()
        return has_it

    def _give_back(self) -> None:
        """Lets go of the lock at once, where the server would take a moment to notice."""
        if self._leading is not None:
            with suppress(exc.DBAPIError):
                self._leading.execute(sa.select(sa.func.pg_advisory_unlock_all()))
        self._let_go()

    def _let_go(self) -> None:
        connection, self._leading = self._leading, None
        if connection is not None:
            # Back in the pool it would keep the lock.
            connection.invalidate()
            connection.close()


class PostgresCopy(PostgresSchema):
    """A copy that is not in use yet."""

    def __init__(self, url: sa.URL, copies: "PostgresCopies") -> None:
        super().__init__(url, _NEXT)
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
        super().__init__(url, _SCHEMA)
        self._url: Final = url
        self._log: Final = log

    @classmethod
    async def open(cls, url: sa.URL, log: Log) -> Self:
        """Makes the tables or brings them up to date. Close it at the end.

        A server that is away is waited for later, by who uses it.

        Raises:
            ConfigError: The server will never do what is asked of it as things are.
        """
        copies = cls(url, log)
        try:
            await copies._prepare()
        except (DependencyUnavailable, NewerSchema) as error:
            cause = str(error)
            if isinstance(error, NewerSchema):
                cause = f"a later version made the tables in schema {_SCHEMA}; run that version"
            elif not any(each in cause for each in _REFUSALS):
                log.warning("read_model.away", error=cause)
                return copies
            await copies.close()
            where = f"{url.host}:{url.port or 5432}/{url.database}"
            raise ConfigError(f"{SETTING}: cannot be used at {where}: {cause}") from None
        return copies

    async def size_bytes(self) -> int:
        """What the tables of the copy in use take, their indexes included."""
        return await self.read(_size_bytes)

    async def lead(self) -> None:
        """Returns once this process carries events; waits for the one that does to end."""
        while True:
            if self._leading is None:
                await self._prepare()
            if await self.take_lock(_LEADING):
                return
            await asyncio.sleep(_FOLLOW_SECONDS)

    @asynccontextmanager
    async def rebuilding(self) -> AsyncGenerator[PostgresCopy]:
        """An empty copy, removed at the end unless it was put in use."""
        copy = PostgresCopy(self._url, self)
        try:
            if not await copy.take_lock(_REBUILDING):
                raise Conflict("The read model is being built again already.")
            await self.write(_drop_others)
            await copy.write(lambda connection: _prepare(connection, _NEXT))
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

    async def _prepare(self) -> None:
        await self.write(lambda connection: _prepare(connection, _SCHEMA))

    def _stand_still(self) -> sa.Connection:
        connection = self._engine.connect()
        try:
            # Who reads goes on.
            connection.execute(sa.text("LOCK TABLE copy_position IN EXCLUSIVE MODE"))
        except BaseException:
            connection.close()
            raise
        return connection


def _prepare(connection: sa.Connection, schema: str) -> None:
    """Makes the schema and its tables, or brings them up to date."""
    # One after another: several processes may start at once.
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCKS, _MIGRATING)))
    connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
    read_model_schema.upgrade(connection)


def _size_bytes(connection: sa.Connection) -> int:
    statement = (
        "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class"
        f" WHERE relkind = 'r' AND relnamespace = '{_SCHEMA}'::regnamespace"
    )
    return connection.exec_driver_sql(statement).scalar_one()


def _drop_others(connection: sa.Connection) -> None:
    """Removes what is not in use."""
    for schema in (_NEXT, _FORMER):
        connection.execute(sa.schema.DropSchema(schema, cascade=True, if_exists=True))


def _put_next_in_use(connection: sa.Connection) -> None:
    for former, new in ((_SCHEMA, _FORMER), (_NEXT, _SCHEMA)):
        connection.execute(sa.text(f"ALTER SCHEMA {former} RENAME TO {new}"))
    connection.commit()
