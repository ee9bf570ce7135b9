"""Add the column `attempts.error_detail`: error details for the operator's log, not for the video's owner."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column."""
    op.add_column("attempts", sa.Column("error_detail", sa.Text()))
