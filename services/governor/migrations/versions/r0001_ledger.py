"""The first tables: charges, their entries, and what questions are answered from."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# Compared byte by byte, whatever language the server speaks.
_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
# SQLite numbers rows by itself only in a column of just this type.
_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_BIG = sa.BigInteger


def upgrade() -> None:
    """Makes them."""
    op.create_table(
        "ledger_position",
        sa.Column("stream", _KEY, primary_key=True),
        sa.Column("position", _BIG, nullable=False),
        sa.Column("stamp_ns", _BIG, nullable=False),
    )
    op.create_table(
        "work",
        sa.Column("id", _ID, primary_key=True),
        *_keys("tenant", "task_type", "agent", "model"),
        sa.Column("tier", sa.SmallInteger, nullable=False),
        sa.UniqueConstraint("tenant", "task_type", "agent", "model", "tier", name="work_key"),
    )
    op.create_table(
        "task",
        sa.Column("id", _ID, primary_key=True),
        *_keys("tenant", "name"),
        sa.Column("ended_micros", _BIG, nullable=False),
        sa.Column("succeeded", sa.Boolean, nullable=False),
        sa.UniqueConstraint("tenant", "name", name="task_key"),
    )
    op.create_table(
        "charge",
        sa.Column("id", _ID, primary_key=True, autoincrement=False),
        *_keys("tenant", "key"),
        *_numbers("work_id", "task_id"),
        *_keys("session"),
        sa.Column("price_version", sa.Text, nullable=False),
        *_numbers("sequence", "called_micros", "settled_micros"),
        *_figures(),
        sa.UniqueConstraint("tenant", "key", name="charge_key"),
    )
    op.create_index("charge_called", "charge", ["tenant", "called_micros"])
    op.create_index("charge_work", "charge", ["work_id", "id"])
    _partial_index("charge_session", ["tenant", "session"], "session <> ''")
    _partial_index("charge_task", ["task_id"], "task_id > 0")
    op.create_table(
        "account",
        sa.Column("id", _ID, primary_key=True),
        *_keys("kind", "subject"),
        sa.UniqueConstraint("kind", "subject", name="account_key"),
    )
    op.create_table(
        "entry",
        sa.Column("charge_id", _BIG, primary_key=True, autoincrement=False),
        sa.Column("account_id", _BIG, primary_key=True, autoincrement=False),
        *_numbers("amount_micros"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "scope_total",
        *(sa.Column(name, _KEY, primary_key=True) for name in ("kind", "tenant", "subject")),
        sa.Column("quarter", _BIG, primary_key=True, autoincrement=False),
        *_figures(),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """There is no way back: what the journal has forgotten is nowhere else."""
    raise NotImplementedError


def _keys(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, _KEY, nullable=False) for name in names]


def _numbers(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, _BIG, nullable=False) for name in names]


def _figures() -> list[sa.Column[Any]]:
    return _numbers(
        "input_tokens",
        "output_tokens",
        "cached_input_tokens",
        "model_calls",
        "tool_calls",
        "cache_hits",
        "cost_micros",
    )


def _partial_index(name: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, "charge", columns, sqlite_where=condition, postgresql_where=condition)
