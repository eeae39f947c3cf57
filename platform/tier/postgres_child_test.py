"""PostgreSQL as a child of a mesh: closed to strangers, and there again after its death."""

import asyncio
import os
import shutil
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import psycopg
import pytest
import pytest_asyncio

from meshtest.eventually import eventually
from tier.backoff import RestartPolicy
from tier.binaries import repository_root
from tier.child import Child
from tier.data_dir import DataDir
from tier.events import Event, Phase, Reporter
from tier.failures import StartFailed
from tier.ports import free_ports
from tier.postgres_binary import find_postgres
from tier.postgres_child import PostgresAccess, postgres_child


class _Server:
    """The child, and how to come in."""

    def __init__(self, folder: Path, binary: Path) -> None:
        data_dir = DataDir(folder)
        data_dir.prepare()
        (port,) = free_ports(1)
        spec, self.access = postgres_child(binary, data_dir, repository_root(), port)
        self.told: list[Event] = []
        self.child = Child(spec, Reporter(self.told.append), RestartPolicy())
        self.child.spawn()

    def come_in(self, access: PostgresAccess | None = None) -> psycopg.Connection:
        """A connection as who, unless as the mesh's processes."""
        who = access or self.access
        return psycopg.connect(who.address, passfile=str(who.password_file), connect_timeout=60)

    def ask(self, query: str, access: PostgresAccess | None = None) -> object:
        """The first value of the answer."""
        with self.come_in(access) as connection:
            row = connection.execute(query.encode()).fetchone()
            return row[0] if row else None


@pytest.fixture(scope="module")
def binary() -> Path:
    """The PostgreSQL of this machine."""
    found = find_postgres(os.environ)
    if found is None:
        pytest.skip("this machine has no PostgreSQL")
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, binary: Path) -> Path:
    """What one has made whose beginning was interrupted; to be copied, for it takes its time."""
    folder = tmp_path_factory.mktemp("made")
    half = folder / "postgres/data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("15\n")

    async def make() -> None:
        server = _Server(folder, binary)
        try:
            await server.child.ready()
        finally:
            await server.child.stop()

    asyncio.run(make())
    return folder / "postgres"


@pytest_asyncio.fixture
async def server(tmp_path: Path, binary: Path, made: Path) -> AsyncIterator[_Server]:
    """One that runs on data that nobody else has."""
    shutil.copytree(made, tmp_path / "postgres")
    running = _Server(tmp_path, binary)
    await running.child.ready()
    yield running
    await running.child.stop()


async def test_its_password_is_its_owners_alone(server: _Server, tmp_path: Path) -> None:
    """Who knows it comes in, by the file that processes are given; nobody else does."""
    assert server.ask("SELECT current_user") == "agentmesh"
    assert (
        server.child.record.version == (tmp_path / "postgres/data/PG_VERSION").read_text().strip()
    )
    for name in ("password", "pgpass"):
        assert stat.S_IMODE((tmp_path / "postgres" / name).stat().st_mode) == 0o600
    stranger = PostgresAccess(server.access.address, tmp_path / "nothing")
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        server.ask("SELECT 1", stranger)
    stranger.password_file.write_text("127.0.0.1:*:*:agentmesh:guessed\n")
    stranger.password_file.chmod(0o600)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        server.ask("SELECT 1", stranger)


async def test_it_listens_on_this_machine_alone_and_flushes(server: _Server) -> None:
    """No address but the loopback's, no socket in the file system; what is committed is on disk."""
    assert server.ask("SHOW listen_addresses") == "127.0.0.1"
    assert server.ask("SHOW unix_socket_directories") == ""
    assert (server.ask("SHOW fsync"), server.ask("SHOW synchronous_commit")) == ("on", "on")
    sockets = psutil.Process(server.child.record.pid).net_connections()
    assert {tuple(each.laddr) for each in sockets if each.status == psutil.CONN_LISTEN} == {
        ("127.0.0.1", server.child.record.ports[0])
    }


async def test_it_comes_back_with_what_was_committed(server: _Server) -> None:
    """A kill -9 loses nothing, and is told."""
    watching = asyncio.create_task(server.child.watch(lambda: None))
    with server.come_in() as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
    os.kill(server.child.record.pid, signal.SIGKILL)

    def back() -> bool:
        return server.child.record.restarts >= 1 and server.told[-1].phase is Phase.READY

    await eventually(back, timeout_seconds=60)
    assert server.ask("SELECT value FROM kept") == 7
    assert server.child.record.last_death.startswith("killed by SIGKILL at ")
    watching.cancel()


async def test_it_ends_at_once_and_the_next_one_has_its_data(
    server: _Server, tmp_path: Path, binary: Path
) -> None:
    """Whoever is connected is sent away; the password stays what it was."""
    with server.come_in() as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
        connection.commit()
        pid = server.child.record.pid
        async with asyncio.timeout(60):
            await server.child.stop()
        assert not psutil.pid_exists(pid)
    assert "shutting down" in (tmp_path / "logs/postgres.log").read_text()
    after = _Server(tmp_path, binary)
    try:
        await after.child.ready()
        assert after.ask("SELECT value FROM kept") == 7
    finally:
        await after.child.stop()


async def test_what_a_killed_one_left_behind_does_not_write_on(
    server: _Server, tmp_path: Path, binary: Path
) -> None:
    """A helper that is still busy when the next server starts is ended first."""
    connection = server.come_in()
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    assert row
    busy = psutil.Process(row[0])
    # It does not see that its server dies.
    busy.suspend()
    os.kill(server.child.record.pid, signal.SIGKILL)
    with pytest.raises(StartFailed):
        await server.child.must_live()
    after = _Server(tmp_path, binary)
    try:
        await after.child.ready()
        assert after.ask("SELECT 1") == 1
    finally:
        await after.child.stop()
        connection.close()
    assert not busy.is_running() or busy.status() == psutil.STATUS_ZOMBIE


async def test_the_pid_of_a_dead_one_is_not_mistaken(
    server: _Server, tmp_path: Path, binary: Path
) -> None:
    """After a crash of the machine another program may have the pid that the data names."""
    await server.child.stop()
    other = await asyncio.create_subprocess_exec("sleep", "600")
    left = f"{other.pid}\n{tmp_path}/postgres/data\n1\n5432\n\n127.0.0.1\n"
    (tmp_path / "postgres/data/postmaster.pid").write_text(left)
    after = _Server(tmp_path, binary)
    try:
        await after.child.ready()
    finally:
        await after.child.stop()
        other.kill()
        await other.wait()


async def test_an_interrupted_beginning_is_begun_anew(made: Path, server: _Server) -> None:
    """Data that was half made when its maker died is no obstacle."""
    assert not (made / "data.new").exists()
    assert server.ask("SELECT 1") == 1


def test_the_machines_own_is_found(tmp_path: Path) -> None:
    """The launcher that the environment names comes first; a name of nothing is none."""
    for name in ("initdb", "postgres"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    launcher = tmp_path / "postgres"
    assert find_postgres({"POSTGRES_SERVER": str(launcher), "PATH": ""}) == launcher
    assert find_postgres({"POSTGRES_SERVER": str(tmp_path / "none"), "PATH": ""}) is None
    assert find_postgres({"PATH": str(tmp_path)}) == tmp_path.resolve()
