"""The schema of the read model, made and brought up to date by Alembic."""

from pathlib import Path
from typing import Final

import sqlalchemy as sa

_FOLDER: Final = Path(__file__).parent / "migrations"
# The last migration. Alembic knows, too, but takes its time to be imported.
HEAD: Final = "0001"
_VERSIONS: Final = sa.table("alembic_version", sa.column("version_num"))


class NewerSchema(Exception):
    """A later version of this program made the tables."""


def upgrade(connection: sa.Connection) -> None:
    """Brings the tables up to date in the connection's transaction; makes them at first.

    Raises:
        NewerSchema: They are ahead of this program.
    """
    present = _version(connection)
    if present == HEAD:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    # A percent sign stands for itself in a path, and not in this option.
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    known = [each.revision for each in ScriptDirectory.from_config(config).walk_revisions()]
    if present is not None and present not in known:
        raise NewerSchema
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def is_current(connection: sa.Connection) -> bool:
    """Whether the tables are as this program wants them."""
    return _version(connection) == HEAD


def _version(connection: sa.Connection) -> str | None:
    """The last migration that was done; None for none."""
    if not sa.inspect(connection).has_table(_VERSIONS.name):
        return None
    return connection.scalar(sa.select(_VERSIONS.c.version_num))
