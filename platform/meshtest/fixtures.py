"""Fixtures for test modules that say `pytest_plugins = ["meshtest.fixtures"]`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshtest.clock import FakeClock
from meshtest.ids import FakeIds
from meshtest.nats_server import NatsServer
from meshtest.postgres_server import PostgresServer
from meshtest.redis_server import RedisServer


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
def clock() -> FakeClock:
    """A clock that stands still until the test advances it."""
    return FakeClock()


@pytest.fixture
def ids() -> FakeIds:
    """Identifiers that count from 1."""
    return FakeIds()
