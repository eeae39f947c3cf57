"""A folder of SQLite files: one copy in use, which any other may replace."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from meshkit.errors import Conflict, DependencyUnavailable
from meshkit.ids import RandomIds
from services.coordinator.read_model import DeadLetterFilter, TaskFilter
from services.coordinator.read_model_file import SqliteFiles
from services.coordinator.read_model_sql import SqlReadModel


@asynccontextmanager
async def _open(folder: Path) -> AsyncGenerator[SqliteFiles]:
    files = await SqliteFiles.open(folder, RandomIds())
    try:
        yield files
    finally:
        await files.close()


def _mark(connection: sa.Connection) -> None:
    connection.exec_driver_sql("INSERT INTO tenant_size VALUES ('acme', 1)")


def _is_marked(connection: sa.Connection) -> bool:
    return bool(connection.exec_driver_sql("SELECT count(*) FROM tenant_size").scalar_one())


def _in_use(folder: Path) -> Path:
    return folder / (folder / "current").read_text()


def _files(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir())


async def test_a_copy_is_there_again(tmp_path: Path) -> None:
    """With what was written, in the one file that is left."""
    async with _open(tmp_path) as files:
        await files.write(_mark)
    async with _open(tmp_path) as files:
        assert await files.read(_is_marked)
    assert _files(tmp_path) == ["", ".sqlite"]


@pytest.mark.parametrize("former", ["older", "later", "damaged", "missing", "unknown"])
async def test_a_copy_that_cannot_be_used_is_begun_anew(tmp_path: Path, former: str) -> None:
    """What is in it is in the log; nothing of it is left."""
    async with _open(tmp_path) as files:
        await files.write(_mark)
    path = _in_use(tmp_path)
    match former:
        case "damaged":
            path.write_bytes(b"not a database" * 1000)
        case "missing":
            path.unlink()
        case "unknown":
            (tmp_path / "current").write_bytes(b"\xff../x")
        case _:
            version = "0000" if former == "older" else "9999"
            with sqlite3.connect(path) as database:
                database.execute(f"UPDATE alembic_version SET version_num = '{version}'")
            database.close()
    async with _open(tmp_path) as files:
        assert not await files.read(_is_marked)
    assert _files(tmp_path) == ["", ".sqlite"]
    assert not path.exists()


async def test_another_copy_takes_the_place_of_the_one_in_use(tmp_path: Path) -> None:
    """At once, for reads that come later; the former is gone when it is over."""
    async with _open(tmp_path) as files:
        async with files.rebuilding() as copy:
            await copy.write(_mark)
            assert not await files.read(_is_marked)
            async with copy.switching():
                assert not await files.read(_is_marked)
            assert await files.read(_is_marked)
        assert await files.read(_is_marked)
    async with _open(tmp_path) as files:
        assert await files.read(_is_marked)
    assert _files(tmp_path) == ["", ".sqlite"]


async def test_a_rebuilding_that_fails_leaves_the_copy_in_use(tmp_path: Path) -> None:
    """Before the switch and in the middle of it; the next one begins anew."""
    async with _open(tmp_path) as files:
        for attempt in (_fail_to_build, _fail_to_switch):
            with pytest.raises(ZeroDivisionError):
                await attempt(files)
        async with files.rebuilding() as copy:
            assert not await copy.read(_is_marked)
        assert not await files.read(_is_marked)
        await files.carry(_mark)
    assert _files(tmp_path) == ["", ".sqlite"]


async def _fail_to_build(files: SqliteFiles) -> None:
    async with files.rebuilding() as copy:
        await copy.write(_mark)
        raise ZeroDivisionError


async def _fail_to_switch(files: SqliteFiles) -> None:
    async with files.rebuilding() as copy:
        await copy.write(_mark)
        async with copy.switching():
            raise ZeroDivisionError


async def test_what_a_crash_left_of_a_rebuilding_is_removed(tmp_path: Path) -> None:
    """The copy in use is as it was."""
    async with _open(tmp_path) as files:
        await files.write(_mark)
    for name in ("x.sqlite", "x.sqlite-wal", "x.sqlite-shm", "current.next"):
        (tmp_path / name).write_bytes(b"x")
    async with _open(tmp_path) as files:
        assert await files.read(_is_marked)
    assert _files(tmp_path) == ["", ".sqlite"]


async def test_nothing_is_carried_during_a_switch(tmp_path: Path) -> None:
    """It goes into the copy that is in use by then."""
    async with _open(tmp_path) as files, files.rebuilding() as copy:
        async with copy.switching():
            carrying = asyncio.create_task(files.carry(_mark))
            await asyncio.sleep(0)
            assert not await copy.read(_is_marked)
        await carrying
        assert await files.read(_is_marked)
        assert await copy.read(_is_marked)


async def test_only_one_rebuilding_at_a_time(tmp_path: Path) -> None:
    """The second one is told."""
    async with _open(tmp_path) as files, files.rebuilding():
        with pytest.raises(Conflict, match=r"The read model is being built again already\."):
            async with files.rebuilding():
                pass


async def test_a_file_that_cannot_be_read_is_a_dependency_that_is_away(tmp_path: Path) -> None:
    """Whatever is asked; the log is whole, so the call may be repeated a second later."""
    async with _open(tmp_path) as files:
        model = SqlReadModel(files)
        await files.write(lambda on: on.exec_driver_sql("DROP TABLE task"))
        for call in (
            model.list(TaskFilter("acme", session="none"), position=None, limit=10),
            model.dead_letters(DeadLetterFilter("acme"), position=None, limit=10),
            model.open_children("acme", "t1"),
        ):
            with pytest.raises(DependencyUnavailable) as caught:
                await call
            assert caught.value.message == "Failed to use the read model: no such table: task."
            assert caught.value.metadata == {"dependency": "read_model"}
            assert caught.value.retry_after_seconds == 1.0


async def test_a_locked_file_keeps_nobody_waiting_for_long(tmp_path: Path) -> None:
    """A write fails after five seconds, with nothing written; reads go on."""
    async with _open(tmp_path) as files:
        with sqlite3.connect(_in_use(tmp_path)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(DependencyUnavailable, match="database is locked"):
                await files.write(_mark)
            assert not await files.read(_is_marked)
        other.close()
        await files.write(_mark)
