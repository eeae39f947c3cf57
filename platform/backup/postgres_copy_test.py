"""The mesh's own PostgreSQL is saved while it works, and is whole after a restore."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from backup.archive import Archive, ArchiveWriter
from backup.failures import Damaged
from backup.manifest import Manifest
from backup.postgres_copy import restore_postgres, save_postgres
from meshtest.eventually import eventually
from tier.backoff import RestartPolicy
from tier.binaries import repository_root
from tier.child import Child
from tier.data_dir import DataDir
from tier.events import Event, Reporter
from tier.options import Tier
from tier.ports import free_ports
from tier.postgres_binary import find_postgres
from tier.postgres_child import PostgresAccess, postgres_child
from tier.state import MeshState, ProcessRecord

_NOW = datetime(2026, 11, 21, tzinfo=UTC)


def _unheard(_event: Event) -> None:
    pass


@pytest.fixture(scope="module")
def binary() -> Path:
    """The PostgreSQL of this machine."""
    found = find_postgres(os.environ)
    if found is None:
        pytest.skip("this machine has no PostgreSQL")
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, binary: Path) -> Path:
    """What a server makes at its first start; to be copied, for it takes its time."""
    folder = tmp_path_factory.mktemp("made")

    async def make() -> None:
        async with _server(folder, binary):
            pass

    asyncio.run(make())
    return folder / "postgres"


@asynccontextmanager
async def _server(folder: Path, binary: Path) -> AsyncGenerator[tuple[PostgresAccess, MeshState]]:
    """A server on a data directory, and what is known of its mesh."""
    data_dir = DataDir(folder)
    data_dir.prepare()
    (port,) = free_ports(1)
    spec, access = postgres_child(binary, data_dir, repository_root(), port)
    child = Child(spec, Reporter(_unheard), RestartPolicy())
    child.spawn()
    try:
        await child.ready()
        record = ProcessRecord("postgres", 1, "15", (port,), None)
        yield access, _state(folder, record)
    finally:
        await child.stop()


def _state(folder: Path, *records: ProcessRecord) -> MeshState:
    return MeshState(
        pid=1,
        process_start_ticks=1,
        tier=Tier.STAGING,
        version="0.1.0",
        started=_NOW,
        data_dir=folder,
        address="127.0.0.1:1",
        admin_address=None,
        config=None,
        processes=records,
        notes=(),
        services=(),
    )


async def _connect(access: PostgresAccess) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(
        access.address, passfile=str(access.password_file), autocommit=True
    )


async def _saved(folder: Path, state: MeshState | None, to: Path) -> Path:
    writer = ArchiveWriter(to)
    notes: list[str] = []
    version = await save_postgres(folder, state, writer, notes.append)
    assert notes == [
        f"The databases are PostgreSQL's, version {version}: the same is needed to use them."
    ]
    writer.finish(
        Manifest(
            made_by="0.1.0",
            versions={"postgres": version},
            tier="",
            began=_NOW,
            ended=_NOW,
            members=writer.members,
            streams=[],
            databases=[],
            links={},
            notes=notes,
        )
    )
    return to


async def test_what_was_committed_is_there_and_nothing_halfway(
    tmp_path: Path, binary: Path, made: Path
) -> None:
    """Two tables that always agree do so after a restore, with all from before the backup."""
    shutil.copytree(made, tmp_path / "data/postgres")
    async with _server(tmp_path / "data", binary) as (access, state):
        connection = await _connect(access)
        await connection.execute("CREATE TABLE a (n int PRIMARY KEY)")
        await connection.execute("CREATE TABLE b (n int PRIMARY KEY, filler text)")
        is_saved = asyncio.Event()
        done = 0

        async def write() -> None:
            nonlocal done
            while not is_saved.is_set():
                async with connection.transaction():
                    await connection.execute("INSERT INTO a VALUES (%s)", (done,))
                    filler = "x" * 10_000
                    await connection.execute("INSERT INTO b VALUES (%s, %s)", (done, filler))
                done += 1

        writing = asyncio.create_task(write())
        await eventually(lambda: done >= 50, timeout_seconds=60)
        before = done
        saved = await _saved(tmp_path / "data", state, tmp_path / "pg.backup")
        is_saved.set()
        await writing
        await connection.close()
    with Archive(saved) as archive:
        assert "postgres/data/postmaster.pid" not in archive.names
        restore_postgres(archive, tmp_path / "new")
    async with _server(tmp_path / "new", binary) as (access, _state_of_new):
        connection = await _connect(access)
        rows = [
            await (await connection.execute(f"SELECT count(*), max(n) FROM {table}")).fetchone()  # pyright: ignore
            for table in ("a", "b")
        ]
        assert rows[0] == rows[1]
        assert rows[0] is not None
        count, last = rows[0]
        assert before <= count == last + 1 <= done
        await connection.execute("INSERT INTO a VALUES (-1)")
        await connection.close()


async def test_one_that_does_not_run_is_saved_by_its_files(
    tmp_path: Path, binary: Path, made: Path
) -> None:
    """With its own log, in which the end of its work may be."""
    shutil.copytree(made, tmp_path / "data/postgres")
    async with _server(tmp_path / "data", binary) as (access, _):
        connection = await _connect(access)
        await connection.execute("CREATE TABLE a (n int PRIMARY KEY)")
        await connection.close()
    saved = await _saved(tmp_path / "data", None, tmp_path / "pg.backup")
    with Archive(saved) as archive:
        restore_postgres(archive, tmp_path / "new")
    async with _server(tmp_path / "new", binary) as (access, _):
        connection = await _connect(access)
        row = await (await connection.execute("SELECT count(*) FROM a")).fetchone()
        assert row == (0,)
        await connection.close()


async def test_without_a_server_there_is_nothing_to_save(tmp_path: Path) -> None:
    """As in a prototype."""
    writer = ArchiveWriter(tmp_path / "a.backup")
    assert await save_postgres(tmp_path, None, writer, print) == ""
    assert writer.members == []
    writer.abandon()


@pytest.mark.parametrize("place", ["/outside", "../outside", "pg_wal//outside"])
def test_no_folder_is_made_outside(tmp_path: Path, place: str) -> None:
    """A file that names such folders is damaged."""
    writer = ArchiveWriter(tmp_path / "evil.backup")
    with writer.member("postgres/folders.json") as into:
        into.write(json.dumps([place]).encode())
    writer.finish(Manifest("0.1.0", {}, "", _NOW, _NOW, writer.members, [], [], links={}, notes=[]))
    with (
        Archive(tmp_path / "evil.backup") as archive,
        pytest.raises(Damaged, match="outside of a data directory"),
    ):
        restore_postgres(archive, tmp_path / "new")
