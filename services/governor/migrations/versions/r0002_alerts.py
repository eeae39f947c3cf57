"""The table of alerts, which are found in the same transaction as the charges behind them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Makes it."""
    op.create_table(
        "alert",
        sa.Column(
            "id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), primary_key=True
        ),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("sequence", "found")),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("tenant", "budget", "kind", "text")
        ),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("time_micros", "spent_micros", "limit_micros")
        ),
    )
    op.create_index("alert_sequence", "alert", ["sequence", "found"])
    op.create_index("alert_found", "alert", ["found"])


def downgrade() -> None:
    """Removes it."""
    op.drop_table("alert")
