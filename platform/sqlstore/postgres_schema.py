"""A copy in PostgreSQL: a schema that any number of processes share.

Who holds the leader's lock carries into it; when it dies, its connection ends and
another one gets the lock.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from meshkit.config import ConfigError
from meshkit.errors import DependencyUnavailable
from meshkit.log import Log
from sqlstore.database import RESIGNED_SECONDS, Purpose, Work, translated
from sqlstore.schema import NewerSchema, Schema

T = TypeVar("T")

_READERS: Final = 4
# Beside those: the leader's, and one for a switch.
_CONNECTIONS: Final = _READERS + 2
_LEADING, _MIGRATING = 1, 3
# How soon another process follows when the one that carries is gone.
_FOLLOW_SECONDS: Final = 2.0
# What a client and a server do about the other one's sudden death.
_CONNECTING: Final[Mapping[str, Any]] = {
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


@dataclass(frozen=True, slots=True)
class SharedSchema:
    """A schema that processes of one kind share."""

    name: str
    # As the server lists those who use it.
    application: str
    # Locks of a database are told apart by numbers: all of this schema have this one first.
    locks: int
    # Further settings of a connection.
    options: Mapping[str, str] = field(default_factory=dict[str, str])


def parse_address(text: str, *, setting: str) -> sa.URL:
    """The address that a setting gives.

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
            f"{setting}: must be empty, for SQLite, or like postgresql://USER@HOST:PORT/DATABASE"
        )
    return url.set(drivername="postgresql+psycopg")


class PostgresSchema:
    """A Database in one schema."""

    def __init__(
        self, url: sa.URL, shared: SharedSchema, schema: Schema, purpose: Purpose, log: Log
    ) -> None:
        self._url: Final = url
        self._shared: Final = shared
        self._schema: Final = schema
        self._purpose: Final = purpose
        self._log: Final = log
        options = {"search_path": shared.name, **_OPTIONS, **shared.options}
        self._engine: Final = sa.create_engine(
            url,
            connect_args={
                "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
                "application_name": shared.application,
                **_CONNECTING,
            },
            # Values by their order, as SQLite has them.
            paramstyle="format",
            pool_size=_CONNECTIONS,
            max_overflow=0,
            # A server that was started again has forgotten the connections of before.
            pool_pre_ping=True,
        )
        self._threads: Final = ThreadPoolExecutor(_READERS, purpose.name)
        # The leader's connection, which holds the lock; used by one thread alone.
        self._leading: sa.Connection | None = None
        self._leader: Final = ThreadPoolExecutor(1, f"{purpose.name}-leader")
        # Held by who asks to lead. The carriers of all streams lead together.
        self._asking: Final = asyncio.Lock()
        # Not to lead before, by the monotonic clock.
        self._leads_from = 0.0

    @property
    def kind(self) -> str:
        """What it is."""
        return "postgresql"

    async def prepare(self) -> None:
        """Makes the tables or brings them up to date; closes itself where it raises.

        A server that is away is waited for later, by who uses it.

        Raises:
            ConfigError: The server will never do what is asked of it as things are.
        """
        try:
            await self._prepare()
        except (DependencyUnavailable, NewerSchema) as error:
            cause = str(error)
            if isinstance(error, NewerSchema):
                name = self._shared.name
                cause = f"a later version made the tables in schema {name}; run that version"
            elif not any(each in cause for each in _REFUSALS):
                self._log.warning(f"{self._purpose.name}.away", error=cause)
                return
            await self.close()
            where = f"{self._url.host}:{self._url.port or 5432}/{self._url.database}"
            raise ConfigError(
                f"{self._purpose.setting}: cannot be used at {where}: {cause}"
            ) from None

    async def read(self, work: Work[T]) -> T:
        """What `work` finds."""
        return await self._in(self._threads, lambda: self._once(work))

    async def write(self, work: Work[T]) -> T:
        """Does all of `work` or nothing."""
        return await self.read(work)

    async def lead(self) -> None:
        """Returns once this process carries; waits for the one that does to end."""
        async with self._asking:
            while True:
                if time.monotonic() >= self._leads_from:
                    if self._leading is None:
                        await self._prepare()
                    if await self.take_lock(_LEADING):
                        return
                await asyncio.sleep(_FOLLOW_SECONDS)

    async def resign(self) -> None:
        """Gives the leader's lock to who waits for it; this process may lead again later."""
        self._leads_from = time.monotonic() + RESIGNED_SECONDS
        await asyncio.get_running_loop().run_in_executor(self._leader, self._give_back)

    async def carry(self, work: Work[T]) -> T:
        """As `write`, on the connection that holds the lock."""
        return await self._in(self._leader, lambda: self._as_leader(work))

    async def take_lock(self, lock: int) -> bool:
        """Whether this process has the lock now; it keeps it until something fails."""
        return await self._in(self._leader, lambda: self._lock(lock))

    async def size_bytes(self) -> int:
        """What the tables take, their indexes included."""
        return await self.read(self._size_bytes)

    async def close(self) -> None:
        """Ends what is under way, and gives the lock back."""
        await asyncio.get_running_loop().run_in_executor(self._leader, self._give_back)
        for each in (self._threads, self._leader):
            await asyncio.to_thread(each.shutdown)
        await asyncio.to_thread(self._engine.dispose)

    async def _prepare(self) -> None:
        await self.write(lambda connection: self.make(connection))

    def make(self, connection: sa.Connection) -> None:
        """Makes the schema and its tables, or brings them up to date."""
        # One after another: several processes may start at once.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(self._shared.locks, _MIGRATING)))
        connection.execute(sa.schema.CreateSchema(self._shared.name, if_not_exists=True))
        self._schema.upgrade(connection)

    async def _in(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        with translated(self._purpose):
            return await asyncio.get_running_loop().run_in_executor(threads, work)

    def _once(self, work: Work[T]) -> T:
        with self._engine.begin() as connection:
            return work(connection)

    def _as_leader(self, work: Work[T]) -> T:
        connection = self._leading
        if connection is None:
            raise DependencyUnavailable(
                f"This process does not carry into {self._purpose.noun} any more.",
                metadata={"dependency": self._purpose.name},
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
        taking = sa.select(sa.func.pg_try_advisory_lock(self._shared.locks, lock))
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

    def _size_bytes(self, connection: sa.Connection) -> int:
        statement = (
            "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class"
            f" WHERE relkind = 'r' AND relnamespace = '{self._shared.name}'::regnamespace"
        )
        return connection.exec_driver_sql(statement).scalar_one()
