"""Add columns that say what happened to a job, and how a dead letter was resolved.

Programs from before this migration leave the new columns empty, so the dead letters that they add are open.
When such a program retries or deletes a video, the video's dead letters stay open. A person can then discard them.
This migration resolves an existing dead letter if its video was retried or deleted after it was added.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add columns and indexes."""
    op.add_column("attempts", sa.Column("version", sa.Text()))
    op.create_index("ix_attempts_started_at", "attempts", ["started_at"])
    for name in ("owner", "code", "error_detail", "worker", "version"):
        op.add_column("dead_letters", sa.Column(name, sa.Text()))
    for name in ("failures", "lost"):
        op.add_column("dead_letters", sa.Column(name, sa.Integer()))
    op.add_column("dead_letters", sa.Column("resolution", sa.Text()))
    op.add_column("dead_letters", sa.Column("resolved_at", sa.BigInteger()))
    for name in ("resolved_by", "reason"):
        op.add_column("dead_letters", sa.Column(name, sa.Text()))
    op.add_column("dead_letters", sa.Column("announced_at", sa.BigInteger()))
    # Nothing records the time of the retry or deletion, so `resolved_at` becomes the dead letter's own time.
    op.execute("""
        UPDATE dead_letters SET resolved_at = created_at, resolution = CASE
            WHEN EXISTS (SELECT 1 FROM videos WHERE videos.id = dead_letters.video_id AND videos.deleted_at IS NULL)
            THEN 'redriven' ELSE 'deleted' END
        WHERE video_id IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM jobs JOIN videos ON videos.id = jobs.video_id
            WHERE jobs.video_id = dead_letters.video_id AND jobs.generation = dead_letters.generation
            AND videos.deleted_at IS NULL
        )
    """)
    op.create_index("ix_dead_letters_created_at", "dead_letters", ["created_at", "id"])
    op.create_index("ix_dead_letters_announced_at", "dead_letters", ["announced_at"])
    op.create_index(
        "ix_dead_letters_open",
        "dead_letters",
        ["created_at", "id"],
        postgresql_where=sa.text("resolution IS NULL"),
        sqlite_where=sa.text("resolution IS NULL"),
    )
