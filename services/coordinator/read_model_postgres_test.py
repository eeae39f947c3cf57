"""A read model in PostgreSQL, which several coordinators share and which may go away."""

import asyncio
import io
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg
import pytest
import sqlalchemy as sa

from meshkit import log
from meshkit.config import ConfigError
from meshkit.errors import Conflict, DependencyUnavailable
from meshtest.eventually import eventually
from meshtest.postgres_server import PostgresServer
from services.coordinator.read_model_database import PURPOSE
from services.coordinator.read_model_postgres import PostgresCopies
from sqlstore.postgres_schema import parse_address

pytest_plugins = ["meshtest.fixtures"]

# Before what lets everybody else in.
_WITH_PASSWORDS = "host all member,guest all scram-sha-256\n"


def _parse(address: str) -> sa.URL:
    return parse_address(address, setting=PURPOSE.setting)


@asynccontextmanager
async def _open(url: str, journal: io.StringIO | None = None) -> AsyncGenerator[PostgresCopies]:
    copies = await PostgresCopies.open(
        _parse(url),
        log.get("test", stream=journal or io.StringIO()),
    )
    try:
        yield copies
    finally:
        await copies.close()


def _mark(connection: sa.Connection) -> None:
    connection.exec_driver_sql("INSERT INTO tenant_size VALUES ('acme', 1)")


def _is_marked(connection: sa.Connection) -> bool:
    return bool(connection.exec_driver_sql("SELECT count(*) FROM tenant_size").scalar_one())


def _advance(connection: sa.Connection) -> None:
    connection.exec_driver_sql("INSERT INTO copy_position VALUES ('TASKS', 1, 1)")


def _schemas(connection: sa.Connection) -> list[str]:
    return list(
        connection.exec_driver_sql(
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'agentmesh%%' ORDER BY 1"
        ).scalars()
    )


@pytest.mark.parametrize(
    "address",
    [
        "mysql://agentmesh:secret@db/tasks",
        "postgresql://agentmesh:secret@db",
        "postgresql:///tasks?password=secret",
        "postgresql://agentmesh:secret@db:port/tasks",
        "secret",
    ],
)
def test_another_address_is_refused(address: str) -> None:
    """The text says what is expected, and nothing of what was given."""
    with pytest.raises(ConfigError) as caught:
        _parse(address)
    assert str(caught.value) == (
        "coordinator.read_model: must be empty, for SQLite, or like"
        " postgresql://USER@HOST:PORT/DATABASE"
    )


async def test_a_copy_is_there_again(postgres_url: str) -> None:
    """With what was written; any number of processes may start at once."""
    async with _open(postgres_url) as first:
        await first.write(_mark)
    async with _open(postgres_url) as one, _open(postgres_url) as other:
        assert await one.read(_is_marked)
        assert await other.read(_is_marked)


async def test_several_may_make_the_tables_at_once(postgres_url: str) -> None:
    """One of them does, and the others find them."""
    url, journal = (
        _parse(postgres_url),
        log.get("test", stream=io.StringIO()),
    )
    opened = await asyncio.gather(*(PostgresCopies.open(url, journal) for _ in range(4)))
    for each in opened:
        assert not await each.read(_is_marked)
        await each.close()


async def test_a_later_schema_is_refused(postgres_url: str) -> None:
    """Nothing in it is touched."""
    async with _open(postgres_url) as copies:
        await copies.write(
            lambda on: on.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        )
    with pytest.raises(ConfigError, match="a later version made the tables in schema"):
        async with _open(postgres_url):
            pass


@pytest.fixture(scope="module")
def guarded(shared_postgres: PostgresServer) -> PostgresServer:
    """A server that asks `member`, who may do everything, and `guest` for their passwords."""
    with psycopg.connect(shared_postgres.url, autocommit=True) as connection:
        connection.execute("CREATE USER member SUPERUSER PASSWORD 'right-secret'")
        connection.execute("CREATE USER guest PASSWORD 'guest-secret'")
    rules = shared_postgres.data / "pg_hba.conf"
    rules.write_text(_WITH_PASSWORDS + rules.read_text())
    shared_postgres.restart()
    return shared_postgres


@pytest.mark.parametrize(
    ("user", "database", "cause"),
    [
        ("member:wrong-secret", "postgres", 'password authentication failed for user "member"'),
        ("member", "postgres", "no password supplied"),
        ("member:right-secret", "nowhere", 'database "nowhere" does not exist'),
        ("guest:guest-secret", "postgres", "permission denied for database postgres"),
    ],
)
async def test_a_server_that_refuses_is_a_wrong_setting(
    guarded: PostgresServer, user: str, database: str, cause: str
) -> None:
    """The text names the setting, the server and the cause, and no password."""
    with pytest.raises(ConfigError) as caught:
        async with _open(guarded.url_of(database, user=user)):
            pass
    text = str(caught.value)
    where = f"127.0.0.1:{guarded.port}/{database}"
    assert text.startswith(f"coordinator.read_model: cannot be used at {where}: ")
    assert cause in text
    assert "secret" not in text


async def test_the_password_may_stand_in_the_environment(
    guarded: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no file has to have it."""
    monkeypatch.setenv("PGPASSWORD", "right-secret")
    async with _open(guarded.url_of("postgres", user="member")) as copies:
        assert not await copies.read(_is_marked)


async def test_a_server_that_is_away_is_waited_for(mortal_postgres: PostgresServer) -> None:
    """What is asked meanwhile may be asked again; once it is there the tables are made."""
    url, journal = mortal_postgres.new_database(), io.StringIO()
    mortal_postgres.kill()
    async with _open(f"{url}?password=secret", journal) as copies:
        for ask in (copies.read(_is_marked), copies.write(_mark), copies.lead()):
            with pytest.raises(DependencyUnavailable) as caught:
                await ask
            assert caught.value.metadata == {"dependency": "read_model"}
            assert caught.value.retry_after_seconds == 1.0
            assert "secret" not in caught.value.message
        assert "read_model.away" in journal.getvalue()
        assert "secret" not in journal.getvalue()
        mortal_postgres.start()
        await copies.lead()
        await copies.carry(_mark)
        assert await copies.read(_is_marked)


async def test_it_goes_on_after_the_server_was_killed(mortal_postgres: PostgresServer) -> None:
    """Also in the middle of a write, of which nothing is left."""
    async with _open(mortal_postgres.new_database()) as copies:
        await copies.lead()

        def die(connection: sa.Connection) -> None:
            _mark(connection)
            mortal_postgres.kill()
            _mark(connection)

        with pytest.raises(DependencyUnavailable):
            await copies.carry(die)
        with pytest.raises(DependencyUnavailable):
            await copies.read(_is_marked)
        mortal_postgres.start()
        await copies.lead()
        assert not await copies.read(_is_marked)
        await copies.carry(_mark)
        assert await copies.read(_is_marked)


async def test_one_process_carries_and_the_next_one_follows(postgres_url: str) -> None:
    """When the first one's connection ends, however it ends."""
    async with _open(postgres_url) as one, _open(postgres_url) as other:
        await one.lead()
        following = asyncio.create_task(other.lead())
        done, _ = await asyncio.wait([following], timeout=0.3)
        assert not done
        with pytest.raises(DependencyUnavailable):
            await other.carry(_mark)
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            )
        async with asyncio.timeout(60):
            await following
        with pytest.raises(DependencyUnavailable):
            await one.carry(_mark)
        await other.carry(_mark)


async def test_who_resigns_lets_another_one_carry(postgres_url: str) -> None:
    """At once, and does not take the lock back before others had the time to."""
    async with _open(postgres_url) as one, _open(postgres_url) as other:
        await one.lead()
        following = asyncio.create_task(other.lead())
        await one.resign()
        back = asyncio.create_task(one.lead())
        async with asyncio.timeout(60):
            await following
        assert not back.done()
        await other.carry(_mark)
        back.cancel()


async def test_one_asks_to_lead_for_all_streams(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many streams a process carries, it asks once at a time, and leads for all."""
    monkeypatch.setattr("sqlstore.postgres_schema._FOLLOW_SECONDS", 0.02)
    async with _open(postgres_url) as other:
        asking, asked = Counter[int](), list[int]()
        take = other.take_lock

        async def counted(lock: int) -> bool:
            asking[lock] += 1
            try:
                return await take(lock)
            finally:
                asked.append(asking[lock])
                asking[lock] -= 1

        monkeypatch.setattr(other, "take_lock", counted)
        async with _open(postgres_url) as one:
            await one.lead()
            carriers = [asyncio.create_task(other.lead()) for _ in range(50)]
            await eventually(lambda: len(asked) >= 3)
        async with asyncio.timeout(60):
            await asyncio.gather(*carriers)
        assert set(asked) == {1}
        await other.carry(_mark)


async def test_another_copy_takes_the_place_of_the_one_in_use(postgres_url: str) -> None:
    """At once and for every process; nothing is left of the former."""
    async with _open(postgres_url) as one, _open(postgres_url) as other:
        await other.lead()
        async with one.rebuilding() as copy:
            await copy.carry(_mark)
            async with copy.switching():
                assert not await other.read(_is_marked)
                carrying = asyncio.create_task(other.carry(_advance))
                done, _ = await asyncio.wait([carrying], timeout=0.3)
                assert not done
            assert await other.read(_is_marked)
            await carrying
        assert await one.read(_is_marked)
        assert await one.read(_schemas) == ["agentmesh_read_model"]


async def test_a_rebuilding_that_fails_leaves_the_copy_in_use(postgres_url: str) -> None:
    """Before the switch and in the middle of it; the next one begins anew."""
    async with _open(postgres_url) as copies:
        for attempt in (_fail_to_build, _fail_to_switch):
            with pytest.raises(ZeroDivisionError):
                await attempt(copies)
        async with copies.rebuilding() as copy:
            assert not await copy.read(_is_marked)
        assert not await copies.read(_is_marked)
        assert await copies.read(_schemas) == ["agentmesh_read_model"]
        await copies.lead()
        await copies.carry(_mark)


async def _fail_to_build(copies: PostgresCopies) -> None:
    async with copies.rebuilding() as copy:
        await copy.carry(_mark)
        raise ZeroDivisionError


async def _fail_to_switch(copies: PostgresCopies) -> None:
    async with copies.rebuilding() as copy:
        await copy.carry(_mark)
        async with copy.switching():
            raise ZeroDivisionError


async def test_only_one_rebuilding_at_a_time(postgres_url: str) -> None:
    """Over all processes; when the one that rebuilds dies, another may."""
    async with _open(postgres_url) as one, _open(postgres_url) as other:
        async with one.rebuilding():
            with pytest.raises(Conflict, match=r"The read model is being built again already\."):
                async with other.rebuilding():
                    pass

        async def again() -> bool:
            try:
                async with other.rebuilding():
                    return True
            except Conflict:
                return False

        await eventually(again)
