"""Add the owner to the outbox, and an index that finds the next entry of each owner.

Programs from before this migration leave the new column empty. The entries that they add then share one turn in the
fair order, as if all of them had the same owner.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column and the index."""
    op.add_column("outbox", sa.Column("owner", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.execute("""
        UPDATE outbox SET owner = (
            SELECT videos.owner FROM jobs JOIN videos ON videos.id = jobs.video_id WHERE jobs.id = outbox.job_id
        )
    """)
    op.create_index("ix_outbox_owner_send_after", "outbox", ["owner", "send_after", "id"])
