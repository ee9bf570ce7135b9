"""Add the column `attempts.error_detail`: details of an error that the video's owner must not see."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column."""
    op.add_column("attempts", sa.Column("error_detail", sa.Text()))
