"""The tables of the ledger. Migrations make them; this is what they come to.

Nothing in `charge`, `entry` and `account` is ever changed or removed. The rest is
kept so that questions need not read all of them.
"""

from typing import Any, Final

import sqlalchemy as sa

from sqlstore.positions import KEY, columns

# What is settled is added up by these: every time zone's days begin with one.
QUARTER_SECONDS: Final = 900
QUARTER_MICROS: Final = QUARTER_SECONDS * 1_000_000

METADATA: Final = sa.MetaData()
# SQLite numbers rows by itself only in a column of just this type.
_ID: Final = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_BIG: Final = sa.BigInteger

_HAS_SESSION: Final = sa.text("session <> ''")
_HAS_TASK: Final = sa.text("task_id > 0")


def _figures() -> tuple[sa.Column[Any], ...]:
    """What was used; see Usage in the contracts. Money in millionths of a US dollar."""
    return tuple(sa.Column(name, _BIG, nullable=False) for name in FIGURES)


FIGURES: Final = (
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "model_calls",
    "tool_calls",
    "cache_hits",
    "cost_micros",
)

# How far the journal and the log of tasks were carried.
POSITION: Final = sa.Table("ledger_position", METADATA, *columns())

# What a charge is grouped by: a row for each combination that there is.
WORK: Final = sa.Table(
    "work",
    METADATA,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("tenant", KEY, nullable=False),
    sa.Column("task_type", KEY, nullable=False),
    sa.Column("agent", KEY, nullable=False),
    sa.Column("model", KEY, nullable=False),
    sa.Column("tier", sa.SmallInteger, nullable=False),
    sa.UniqueConstraint("tenant", "task_type", "agent", "model", "tier", name="work_key"),
)

# Tasks that were charged or have ended.
TASK: Final = sa.Table(
    "task",
    METADATA,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("tenant", KEY, nullable=False),
    sa.Column("name", KEY, nullable=False),
    # 0 while it goes on.
    sa.Column("ended_micros", _BIG, nullable=False),
    sa.Column("succeeded", sa.Boolean, nullable=False),
    sa.UniqueConstraint("tenant", "name", name="task_key"),
)

# One settled call: a transaction of the ledger.
CHARGE: Final = sa.Table(
    "charge",
    METADATA,
    # Rises in the order of the journal.
    sa.Column("id", _ID, primary_key=True, autoincrement=False),
    sa.Column("tenant", KEY, nullable=False),
    sa.Column("key", KEY, nullable=False),
    sa.Column("work_id", _BIG, nullable=False),
    # 0 for none.
    sa.Column("task_id", _BIG, nullable=False),
    sa.Column("session", KEY, nullable=False),
    sa.Column("price_version", sa.Text, nullable=False),
    # The stream sequence in the journal.
    sa.Column("sequence", _BIG, nullable=False),
    # When the call ended, and when it was settled, in microseconds since 1970.
    sa.Column("called_micros", _BIG, nullable=False),
    sa.Column("settled_micros", _BIG, nullable=False),
    *_figures(),
    # What is found in the journal again is no charge again.
    sa.UniqueConstraint("tenant", "key", name="charge_key"),
    sa.Index("charge_called", "tenant", "called_micros"),
    sa.Index("charge_work", "work_id", "id"),
    sa.Index(
        "charge_session",
        "tenant",
        "session",
        sqlite_where=_HAS_SESSION,
        postgresql_where=_HAS_SESSION,
    ),
    sa.Index(
        "charge_task",
        "task_id",
        sqlite_where=_HAS_TASK,
        postgresql_where=_HAS_TASK,
    ),
)

# Where money goes to and comes from.
ACCOUNT: Final = sa.Table(
    "account",
    METADATA,
    sa.Column("id", _ID, primary_key=True),
    # `spending` of a tenant, or `payable` to the provider of a model.
    sa.Column("kind", KEY, nullable=False),
    # The tenant, or the model.
    sa.Column("subject", KEY, nullable=False),
    sa.UniqueConstraint("kind", "subject", name="account_key"),
)

# The two sides of a charge that costs anything: they sum to 0.
ENTRY: Final = sa.Table(
    "entry",
    METADATA,
    sa.Column("charge_id", _BIG, primary_key=True, autoincrement=False),
    sa.Column("account_id", _BIG, primary_key=True, autoincrement=False),
    # Over 0 where the account is debited.
    sa.Column("amount_micros", _BIG, nullable=False),
    sqlite_with_rowid=False,
)

# Charges that could not be taken: they are in no other table.
REFUSED: Final = sa.Table(
    "refused",
    METADATA,
    # Of what it says: what is found in the journal again is not kept again.
    sa.Column("id", KEY, primary_key=True),
    # The stream sequence in the journal.
    sa.Column("sequence", _BIG, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    # As JSON in ASCII.
    sa.Column("charge", sa.Text, nullable=False),
)

# Records that differ from what the ledger has of their keys, and wait to be looked into.
REPEAT: Final = sa.Table(
    "repeat",
    METADATA,
    # Of what it says: what is found in the journal again is not kept twice.
    sa.Column("id", KEY, primary_key=True),
    # The stream sequence in the journal.
    sa.Column("sequence", _BIG, nullable=False),
    # When it was settled, in microseconds since 1970.
    sa.Column("settled_micros", _BIG, nullable=False),
    # As JSON in ASCII.
    sa.Column("charge", sa.Text, nullable=False),
)

# What was settled in a quarter of an hour, for the scopes of budgets: see Scope.
SCOPE_TOTAL: Final = sa.Table(
    "scope_total",
    METADATA,
    sa.Column("kind", KEY, primary_key=True),
    sa.Column("tenant", KEY, primary_key=True),
    sa.Column("subject", KEY, primary_key=True),
    # Since 1970.
    sa.Column("quarter", _BIG, primary_key=True, autoincrement=False),
    *_figures(),
    sqlite_with_rowid=False,
)
