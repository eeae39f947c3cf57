"""The table of charges that the ledger could not take."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Makes it."""
    op.create_table(
        "refused",
        sa.Column(
            "id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), primary_key=True
        ),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("reason", "charge")),
    )


def downgrade() -> None:
    """Removes it."""
    op.drop_table("refused")
