"""Jobs of the command line belong to the project `default`, as all that is made without a key does."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Give those of no project to it."""
    op.execute("UPDATE jobs SET project = 'default' WHERE project = ''")


def downgrade() -> None:
    """Leave them there: which of its jobs were made without a key is not known, and nothing asks."""
