"""Fixtures for test modules that say `pytest_plugins = ["meshtest.fixtures"]`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from meshtest.clock import FakeClock
from meshtest.ids import FakeIds
from meshtest.nats_server import NatsServer
from meshtest.postgres_server import PostgresServer
from meshtest.redis_server import RedisServer

# More than there are tests in a module.
_ACCOUNTS: Final = 256


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A running NATS server with empty streams; its `url` is where to connect."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A running, empty Redis server; its `url` is where to connect."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def postgres_server(tmp_path: Path) -> Iterator[PostgresServer]:
    """A running, empty PostgreSQL server; its `url` is where to connect."""
    server = PostgresServer(tmp_path / "postgres")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def shared_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A NATS server for tests that let it live; see `nats_url`, and `new_account` of it."""
    server = NatsServer(tmp_path_factory.mktemp("nats"), accounts=_ACCOUNTS)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def nats_url(request: pytest.FixtureRequest) -> str:
    """Where clients find empty streams, on a server that other tests use, too.

    A test that asks for `nats_server` as well, to stop it, has them there.
    """
    if "nats_server" in request.fixturenames:
        own: NatsServer = request.getfixturevalue("nats_server")
        return own.url
    shared: NatsServer = request.getfixturevalue("shared_nats")
    return shared.new_account()


@pytest.fixture(scope="module")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis server for tests that let it live, and mind what others left there."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def shared_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A PostgreSQL server for tests that let it live; see `postgres_url`."""
    server = PostgresServer(tmp_path_factory.mktemp("postgres"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def postgres_url(shared_postgres: PostgresServer) -> str:
    """Where clients connect to an empty database, on a server that other tests use, too."""
    return shared_postgres.new_database()


@pytest.fixture
def mortal_postgres(shared_postgres: PostgresServer) -> Iterator[PostgresServer]:
    """The server of `postgres_url`, for a test that stops it: the next test finds it running."""
    yield shared_postgres
    if not shared_postgres.is_running:
        shared_postgres.start()


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until the test advances it."""
    return FakeClock()


@pytest.fixture
def ids() -> FakeIds:
    """Identifiers that count from 1."""
    return FakeIds()
