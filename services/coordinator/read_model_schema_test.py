"""Migrations make the tables that the code uses, on every database."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from services.coordinator.read_model_database import PURPOSE
from services.coordinator.read_model_schema import SCHEMA
from services.coordinator.read_model_tables import METADATA
from sqlstore.postgres_schema import parse_address
from sqlstore.schema import NewerSchema

pytest_plugins = ["meshtest.fixtures"]


@pytest.fixture(params=["sqlite", "postgresql"])
def connection(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[sa.Connection]:
    """To an empty database, in a transaction."""
    if request.param == "sqlite":
        url = sa.URL.create("sqlite", database=str(tmp_path / "file"))
    else:
        url = parse_address(request.getfixturevalue("postgres_url"), setting=PURPOSE.setting)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def test_migrations_come_to_what_the_code_uses(connection: sa.Connection) -> None:
    """Table by table, column by column, index by index; to do them again changes nothing."""
    assert not SCHEMA.is_current(connection)
    for _ in range(2):
        SCHEMA.upgrade(connection)
        assert SCHEMA.is_current(connection)
    assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_the_last_migration_is_known_without_alembic() -> None:
    """The text in the code is the end of the chain."""
    assert SCHEMA.steps()[0] == SCHEMA.head


def test_tables_of_a_later_version_are_left_alone(connection: sa.Connection) -> None:
    """Nobody knows what is in them."""
    SCHEMA.upgrade(connection)
    connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    assert not SCHEMA.is_current(connection)
    with pytest.raises(NewerSchema):
        SCHEMA.upgrade(connection)
