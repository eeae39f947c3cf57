"""A schema, made and brought up to date by Alembic.

A step is called by its number, and by that of the oldest program that the tables
after it still serve: with those of `0006.0004` the programs of the steps 0004 and
0005 work, too. So an upgrade needs no moment at which everything stands still: a
step first adds, and a later release takes away what nobody uses any more.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

if TYPE_CHECKING:
    from alembic.config import Config

_VERSIONS: Final = sa.table("alembic_version", sa.column("version_num"))
_SCRIPTS: Final = Path(__file__).parent / "migrations"


class NewerSchema(Exception):
    """A later version of this program made the tables, and they do not serve this one any more."""


class Schema:
    """The tables of a copy, as numbered steps."""

    def __init__(self, versions: Path, *, head: str) -> None:
        """`versions`: the folder of the steps; `head`: the last one.

        Alembic knows the last one, too, but takes its time to be imported.
        """
        self._versions: Final = versions
        self.head: Final = head

    def upgrade(self, connection: sa.Connection) -> None:
        """Brings the tables up to date in the connection's transaction; makes them at first.

        Tables of a later version that serve this program as well are left as they are.

        Raises:
            NewerSchema: They are ahead of this program, and do not serve it.
        """
        present = _version(connection)
        if present == self.head:
            return
        from alembic import command

        if present is not None and present not in self.steps():
            if not serves(present, self.head):
                raise NewerSchema
            return
        config = self._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    def steps(self) -> Sequence[str]:
        """All steps, the last one first, as Alembic finds them."""
        from alembic.script import ScriptDirectory

        scripts = ScriptDirectory.from_config(self._config())
        return [each.revision for each in scripts.walk_revisions()]

    def is_current(self, connection: sa.Connection) -> bool:
        """Whether the tables are as this program wants them."""
        return _version(connection) == self.head

    def _config(self) -> "Config":
        from alembic.config import Config

        config = Config()
        for option, folder in (
            ("script_location", _SCRIPTS),
            ("version_locations", self._versions),
        ):
            # A percent sign stands for itself in a path, and not in this option.
            config.set_main_option(option, str(folder).replace("%", "%%"))
        # A folder's name may have blanks, by which several folders would be told apart.
        config.set_main_option("path_separator", "newline")
        return config


def serves(tables: str, program: str) -> bool:
    """Whether tables of a later step serve a program of an earlier one, by the steps' names."""
    number, _, oldest = tables.partition(".")
    own = program.partition(".")[0]
    # Numbers are of four digits each.
    return bool(oldest) and oldest <= own < number


def _version(connection: sa.Connection) -> str | None:
    """The last migration that was done; None for none."""
    if not sa.inspect(connection).has_table(_VERSIONS.name):
        return None
    return connection.scalar(sa.select(_VERSIONS.c.version_num))
