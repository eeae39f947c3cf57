"""The tables of the read model. Migrations make them; this is what they come to."""

from typing import Final

import sqlalchemy as sa

from sqlstore.positions import KEY, columns

# Index and question must say it alike, or the index is of no use.
IS_DEAD: Final = "reason <> ''"
IS_CHILD: Final = "parent_id <> ''"
IS_REMOVABLE: Final = "ended_micros > 0 AND content AND NOT expired"
IS_HALF_REMOVED: Final = "expired AND content"

_METADATA: Final = sa.MetaData()


def _index(name: str, *columns: str, where: str) -> sa.Index:
    return sa.Index(name, *columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


# How far the copy is: a row for each stream that events come from.
POSITION: Final = sa.Table("copy_position", _METADATA, *columns())

# One row a task: see TaskRow.
TASK: Final = sa.Table(
    "task",
    _METADATA,
    sa.Column("tenant", KEY, primary_key=True),
    sa.Column("task_id", KEY, primary_key=True),
    sa.Column("created_micros", sa.BigInteger, nullable=False),
    sa.Column("parent_id", KEY, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("lane", sa.SmallInteger, nullable=False),
    sa.Column("ended_micros", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("discarded", sa.Boolean, nullable=False),
    sa.Column("expired", sa.Boolean, nullable=False),
    sa.Column("content", sa.Boolean, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("seen_up_to", sa.BigInteger, nullable=False),
    sa.Column("seen_beyond", sa.Text, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("stream_sequence", sa.BigInteger, nullable=False),
    sa.Column("first_event", sa.LargeBinary, nullable=False),
    sa.Column("last_event", sa.LargeBinary, nullable=False),
    _index("task_children", "tenant", "parent_id", "ended_micros", where=IS_CHILD),
    _index("task_dead", "tenant", "ended_micros", "task_id", where=IS_DEAD),
    _index("task_oldest_ended", "tenant", "ended_micros", "task_id", where=IS_REMOVABLE),
    _index("task_half_removed", "tenant", "task_id", where=IS_HALF_REMOVED),
)

# What tasks are found by: see task_terms. The key is the order of a list.
TERM: Final = sa.Table(
    "task_term",
    _METADATA,
    sa.Column("tenant", KEY, primary_key=True),
    sa.Column("term", KEY, primary_key=True),
    sa.Column("created_micros", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("task_id", KEY, primary_key=True),
    sqlite_with_rowid=False,
)

# What the logs of a tenant's tasks take.
SIZE: Final = sa.Table(
    "tenant_size",
    _METADATA,
    sa.Column("tenant", KEY, primary_key=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

ALL: Final = (POSITION, TASK, TERM, SIZE)
METADATA: Final = _METADATA
