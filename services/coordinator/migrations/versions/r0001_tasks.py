"""The first tables: tasks, what they are found by, and how far the copy is."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# Compared byte by byte, whatever language the server speaks.
_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Makes them."""
    op.create_table(
        "copy_position",
        sa.Column("stream", _KEY, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("stamp_ns", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "task",
        sa.Column("tenant", _KEY, primary_key=True),
        sa.Column("task_id", _KEY, primary_key=True),
        sa.Column("created_micros", sa.BigInteger, nullable=False),
        sa.Column("parent_id", _KEY, nullable=False),
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
    )
    _index("task_children", ["tenant", "parent_id", "ended_micros"], "parent_id <> ''")
    _index("task_dead", ["tenant", "ended_micros", "task_id"], "reason <> ''")
    _index(
        "task_oldest_ended",
        ["tenant", "ended_micros", "task_id"],
        "ended_micros > 0 AND content AND NOT expired",
    )
    _index("task_half_removed", ["tenant", "task_id"], "expired AND content")
    op.create_table(
        "task_term",
        sa.Column("tenant", _KEY, primary_key=True),
        sa.Column("term", _KEY, primary_key=True),
        sa.Column("created_micros", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("task_id", _KEY, primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tenant_size",
        sa.Column("tenant", _KEY, primary_key=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Removes them: the log has all that is in them."""
    for table in ("tenant_size", "task_term", "task", "copy_position"):
        op.drop_table(table)


def _index(name: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, "task", columns, sqlite_where=condition, postgresql_where=condition)
