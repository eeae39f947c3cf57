"""The table of alerts in the ledger's database. Migrations make it; they come to this."""

from typing import Final

import sqlalchemy as sa

METADATA: Final = sa.MetaData()
# Compared byte by byte, whatever language the server speaks.
_KEY: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

# One row an alert; see Alert.
ALERT: Final = sa.Table(
    "alert",
    METADATA,
    sa.Column("id", _KEY, primary_key=True),
    # Its sequence in the stream of alerts; 0 until it is told.
    sa.Column("sequence", sa.BigInteger, nullable=False),
    # Rises with every alert that is recorded; 0 for one that others told.
    sa.Column("found", sa.BigInteger, nullable=False),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("budget", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    # Microseconds since 1970.
    sa.Column("time_micros", sa.BigInteger, nullable=False),
    sa.Column("spent_micros", sa.BigInteger, nullable=False),
    sa.Column("limit_micros", sa.BigInteger, nullable=False),
    # Those that are yet to be told come first, in the order in which they were found.
    sa.Index("alert_sequence", "sequence", "found"),
    sa.Index("alert_found", "found"),
)
