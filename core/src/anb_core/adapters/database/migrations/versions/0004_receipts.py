"""Add `jobs.receipts`: receipts by issuer. It replaces `answered`, whose name fits VideoJobs only.

The migration copies no data, because that would lock `jobs` for long. Older programs read and write only `answered`.
They may run beside this program during a rolling upgrade, or after a rollback. So two releases write both columns:

- this release reads `answered`, which is up to date no matter which program wrote last;
- the next release copies `answered` to `receipts` where they differ, and reads `receipts`;
- the release after that stops writing `answered`;
- the one after it drops the column, because no program that may still run writes it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column."""
    op.add_column("jobs", sa.Column("receipts", sa.JSON().with_variant(postgresql.JSONB(), "postgresql")))
