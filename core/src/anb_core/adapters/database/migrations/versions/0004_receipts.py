"""Add the column `jobs.receipts`. It will replace the column `answered`, whose name fits only VideoJobs.

The migration copies no data, because a copy would lock `jobs` for a long time.
Older programs read and write only the column `answered`.
Older programs may run beside this program during a rolling upgrade, or after a rollback.
The column `answered` is therefore replaced in four releases:

- The first release writes both columns and reads `answered`, because programs of every version write `answered`.
- The second release copies `answered` to `receipts` in rows where they differ. It writes both and reads `receipts`.
- The third release writes only `receipts`.
- The fourth release drops `answered`. By then, no program that writes `answered` can still run.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column."""
    op.add_column("jobs", sa.Column("receipts", sa.JSON().with_variant(postgresql.JSONB(), "postgresql")))
