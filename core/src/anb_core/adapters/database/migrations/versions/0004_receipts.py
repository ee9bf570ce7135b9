"""Add the column `jobs.receipts`, which replaces `answered`, because the old name suits VideoJobs only.

The migration copies no data, because a copy would lock `jobs` for a long time.
Older programs read and write only the column `answered`.
Older programs may run beside this program during a rolling upgrade, or after a rollback.
Because older programs may still run, two releases write both columns:

- The first release reads `answered`, because programs of every version write this column.
- The second release copies `answered` to `receipts` in rows where the two columns differ, and reads `receipts`.
- The third release no longer writes `answered`.
- The fourth release drops the column `answered`. By then, no program that can still run writes the column.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column."""
    op.add_column("jobs", sa.Column("receipts", sa.JSON().with_variant(postgresql.JSONB(), "postgresql")))
