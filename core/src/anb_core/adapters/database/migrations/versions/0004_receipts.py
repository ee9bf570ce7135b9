"""Receipts by issuer, in place of `answered`, which was named after what VideoJobs are told.

Nothing is copied: that would keep `jobs` locked. Programs before this one read and write `answered` alone, and run
beside this one during a rolling upgrade and after a rollback. So for two releases both columns are written:

- this one reads `answered`, which is current whichever program wrote last;
- the next one copies `answered` to `receipts` where they differ, and reads `receipts`;
- the one after that stops writing `answered` and drops it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column."""
    op.add_column("jobs", sa.Column("receipts", sa.JSON().with_variant(postgresql.JSONB(), "postgresql")))
