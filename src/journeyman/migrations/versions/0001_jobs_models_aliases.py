"""The first tables: jobs, models, aliases."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("status", sa.String(32), nullable=False, index=True),
        sa.Column("base", sa.String(512), nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("suffix", sa.String(64), nullable=False),
        sa.Column("wishes", sa.JSON, nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False, index=True),
        sa.Column("started_at", sa.Float),
        sa.Column("finished_at", sa.Float),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("steps", sa.Integer),
        sa.Column("trained_tokens", sa.Integer),
        sa.Column("model", sa.String(512)),
        sa.Column("error", sa.JSON),
    )
    op.create_table(
        "models",
        sa.Column("id", sa.String(512), primary_key=True),
        sa.Column("job", sa.String(64), nullable=False, unique=True),
        sa.Column("base", sa.String(512), nullable=False),
        sa.Column("base_source", sa.Text, nullable=False),
        sa.Column("base_fingerprint", sa.String(64), nullable=False),
        sa.Column("dataset_hash", sa.String(64), nullable=False),
        sa.Column("method", sa.String(16), nullable=False),
        sa.Column("plan", sa.JSON, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("files", sa.JSON, nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False, index=True),
    )
    op.create_table(
        "aliases",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("model", sa.String(512), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("aliases", "models", "jobs"):
        op.drop_table(table)
