"""The table of repeats that say something else, and wait to be looked into."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Makes it."""
    op.create_table(
        "repeat",
        sa.Column(
            "id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), primary_key=True
        ),
        *(
            sa.Column(name, sa.BigInteger, nullable=False)
            for name in ("sequence", "settled_micros")
        ),
        sa.Column("charge", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Removes it."""
    op.drop_table("repeat")
