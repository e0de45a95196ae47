"""The queue: what a job was asked with, whose it is, who runs it, and how often its process died."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

COLUMNS = (
    sa.Column("project", sa.String(128), nullable=False, server_default=""),
    sa.Column("request", sa.JSON),
    sa.Column("metadata", sa.JSON),
    sa.Column("details", sa.JSON),
    sa.Column("lease_owner", sa.String(255)),
    sa.Column("lease_expires", sa.Float),
    sa.Column("deaths", sa.Integer, nullable=False, server_default="0"),
    sa.Column("last_death", sa.Text),
)


def upgrade() -> None:
    """Add the columns."""
    for column in COLUMNS:
        op.add_column("jobs", column._copy())


def downgrade() -> None:
    """Drop them."""
    with op.batch_alter_table("jobs") as table:
        for column in COLUMNS:
            table.drop_column(column.name)
