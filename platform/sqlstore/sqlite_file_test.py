"""A file takes each write as a whole, and one after another."""

import asyncio
import gc
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import sqlalchemy as sa

from sqlstore.database import Purpose
from sqlstore.sqlite_file import SqliteFile

_PURPOSE = Purpose("count", "the count", "test.count")
_COUNT = sa.Table("count", sa.MetaData(), sa.Column("value", sa.Integer))


class Died(Exception):
    """What would have been a kill."""


@pytest.fixture
async def file(tmp_path: Path) -> AsyncGenerator[SqliteFile]:
    """Empty."""
    file = SqliteFile(tmp_path / "file", _PURPOSE)
    yield file
    await file.close()


def _make(connection: sa.Connection) -> None:
    _COUNT.create(connection)
    connection.execute(_COUNT.insert().values(value=0))


async def test_tables_of_a_write_that_did_not_end_are_not_there(file: SqliteFile) -> None:
    """So that it can be done again from its beginning."""

    def make_and_die(connection: sa.Connection) -> None:
        _make(connection)
        raise Died

    for _ in range(2):
        with pytest.raises(Died):
            await file.write(make_and_die)
        assert await file.read(lambda connection: sa.inspect(connection).get_table_names()) == []
    await file.write(_make)


async def test_what_a_write_has_read_is_still_so_when_it_writes(
    file: SqliteFile, tmp_path: Path
) -> None:
    """Two that share a file both count, and none of it is lost or refused."""
    await file.write(_make)
    other = SqliteFile(tmp_path / "file", _PURPOSE)

    def count(connection: sa.Connection) -> None:
        value = connection.execute(sa.select(_COUNT.c.value)).scalar_one()
        connection.execute(_COUNT.update().values(value=value + 1))

    async def count_to(end: int, counter: SqliteFile) -> None:
        for _ in range(end):
            await counter.write(count)

    await asyncio.gather(count_to(50, file), count_to(50, other))
    await other.close()
    assert await file.read(lambda connection: connection.scalar(sa.select(_COUNT.c.value))) == 100


async def test_few_statements_are_kept_however_many_differ(file: SqliteFile) -> None:
    """There is one for each number of keys that are looked for, of half a kilobyte a key."""
    await file.write(_make)
    before = _statements()
    for count in range(1, 101):
        wanted = sa.select(_COUNT).where(_COUNT.c.value.in_(range(count)))
        await file.read(lambda connection, wanted=wanted: connection.execute(wanted).all())
    # Of the three connections that there are at most.
    assert _statements() - before <= 3 * 16


def _statements() -> int:
    return sum(type(each).__qualname__ == "Statement" for each in gc.get_objects())
