"""What the log says of an attempt's error, beside what its owner may read."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column."""
    op.add_column("attempts", sa.Column("error_detail", sa.Text()))
