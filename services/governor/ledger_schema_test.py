"""Migrations make the tables that the code uses, on every database."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from services.governor import alert_tables, ledger_tables
from services.governor.ledger_schema import SCHEMA
from sqlstore.postgres_schema import parse_address

pytest_plugins = ["meshtest.fixtures"]


@pytest.fixture(params=["sqlite", "postgresql"])
def connection(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[sa.Connection]:
    """To an empty database, in a transaction."""
    if request.param == "sqlite":
        url = sa.URL.create("sqlite", database=str(tmp_path / "file"))
    else:
        url = parse_address(request.getfixturevalue("postgres_url"), setting="ledger")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def _all_tables() -> sa.MetaData:
    together = sa.MetaData()
    for metadata in (ledger_tables.METADATA, alert_tables.METADATA):
        for table in metadata.sorted_tables:
            table.to_metadata(together)
    return together


def test_migrations_come_to_what_the_code_uses(connection: sa.Connection) -> None:
    """Table by table, column by column, index by index; to do them again changes nothing."""
    for _ in range(2):
        SCHEMA.upgrade(connection)
        assert SCHEMA.is_current(connection)
    assert compare_metadata(MigrationContext.configure(connection), _all_tables()) == []


def test_the_last_migration_is_known_without_alembic() -> None:
    """The text in the code is the end of the chain."""
    assert SCHEMA.steps()[0] == SCHEMA.head
