"""Add the column `jobs.answered`, for the receipts of VideoJobs. The column of migration 0004 will replace it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column."""
    op.add_column("jobs", sa.Column("answered", sa.JSON().with_variant(postgresql.JSONB(), "postgresql")))
