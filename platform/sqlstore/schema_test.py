"""Tables of a later version serve those programs that their step names."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from sqlstore.schema import NewerSchema, Schema, serves

_STEP = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = {revision!r}, {before!r}


def upgrade():
    {what}
"""


def _schema(folder: Path, *steps: tuple[str, str]) -> Schema:
    """Of a release that has these steps: a name, and what it does."""
    before = None
    folder.mkdir()
    for revision, what in steps:
        text = _STEP.format(revision=revision, before=before, what=what)
        (folder / f"r{revision[:4]}.py").write_text(text, "utf-8")
        before = revision
    return Schema(folder, head=steps[-1][0])


_FIRST = ("0001", 'op.create_table("note", sa.Column("text", sa.Text, nullable=False))')
_EXPAND = ("0002.0001", 'op.add_column("note", sa.Column("kind", sa.Text, server_default="a"))')
_CONTRACT = ("0003.0002", 'op.create_index("note_kind", "note", ["kind"])')


@pytest.mark.parametrize(
    ("tables", "program", "expected"),
    [
        ("0005.0003", "0002", False),
        ("0005.0003", "0003", True),
        ("0005.0003", "0004.0002", True),
        ("0005.0003", "0005.0001", False),
        ("0005", "0004", False),
        ("0012.0009", "0010.0009", True),
    ],
)
def test_a_step_names_the_oldest_program_that_its_tables_serve(
    tables: str, program: str, expected: bool
) -> None:
    """One that names none serves no other than its own."""
    assert serves(tables, program) is expected


def test_one_release_apart_programs_share_the_tables_and_two_apart_they_do_not(
    tmp_path: Path,
) -> None:
    """Whichever of them starts first, and as often as they like."""
    first = _schema(tmp_path / "1", _FIRST)
    second = _schema(tmp_path / "2", _FIRST, _EXPAND)
    third = _schema(tmp_path / "3", _FIRST, _EXPAND, _CONTRACT)
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(tmp_path / "file")))
    with engine.begin() as connection:
        for each in (first, second, first, second):
            each.upgrade(connection)
        # What a program of before writes has the new column's default.
        connection.exec_driver_sql("INSERT INTO note (text) VALUES ('x')")
        assert connection.exec_driver_sql("SELECT kind FROM note").scalar_one() == "a"
        assert not first.is_current(connection)
        assert second.is_current(connection)
        for each in (third, second):
            each.upgrade(connection)
        with pytest.raises(NewerSchema):
            first.upgrade(connection)
        assert third.is_current(connection)
    engine.dispose()
