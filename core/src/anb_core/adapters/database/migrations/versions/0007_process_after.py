"""Add the time before which the person did not want the work on a video to begin.

Programs from before this migration leave the column empty. These programs still wait until the time, because it is also
in `jobs.not_before`.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add a column."""
    op.add_column("videos", sa.Column("process_after", sa.BigInteger()))
