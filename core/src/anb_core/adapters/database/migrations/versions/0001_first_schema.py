"""The first schema."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Create all tables."""
    op.create_table(
        "videos",
        sa.Column("id", ID, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("edit", JSON, nullable=False),
        sa.Column("source_key", sa.Text(), nullable=False),
        sa.Column("owned", sa.Boolean(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("source_size", sa.BigInteger()),
        sa.Column("source_sha256", sa.Text()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger()),
        sa.Column("purge_after", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_videos")),
    )
    op.create_index(op.f("ix_videos_source_key"), "videos", ["source_key"])
    op.create_index("ix_videos_created_at", "videos", ["created_at", "id"])
    op.create_index("ix_videos_owner_created_at", "videos", ["owner", "created_at", "id"])
    op.create_index(
        "ix_videos_purge_after",
        "videos",
        ["purge_after"],
        postgresql_where=sa.text("purge_after IS NOT NULL"),
        sqlite_where=sa.text("purge_after IS NOT NULL"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", ID, nullable=False),
        sa.Column("video_id", ID, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.Column("interruptions", sa.Integer(), nullable=False),
        sa.Column("progress", sa.Float(precision=53), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.Text()),
        sa.Column("lease_expires_at", sa.BigInteger()),
        sa.Column("worker", sa.Text()),
        sa.Column("not_before", sa.BigInteger()),
        sa.Column("upload_expires_at", sa.BigInteger()),
        sa.Column("enqueued_at", sa.BigInteger()),
        sa.Column("enqueued_to", sa.Text()),
        sa.Column("error_code", sa.Text()),
        sa.Column("error_message", sa.Text()),
        sa.Column("result", JSON),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("(result IS NULL) = (status <> 'processed')", name=op.f("ck_jobs_result")),
        sa.CheckConstraint(
            "(upload_expires_at IS NULL) = (status <> 'uploading')", name=op.f("ck_jobs_upload_expires")
        ),
        sa.CheckConstraint("lease_owner IS NULL OR status = 'processing'", name=op.f("ck_jobs_lease_status")),
        sa.CheckConstraint(
            "status IN ('uploading', 'uploaded', 'processing', 'processed', 'failed', 'dead_lettered', 'cancelled')",
            name=op.f("ck_jobs_status"),
        ),
        sa.CheckConstraint("(lease_owner IS NULL) = (lease_expires_at IS NULL)", name=op.f("ck_jobs_lease_whole")),
        sa.CheckConstraint("progress BETWEEN 0 AND 1", name=op.f("ck_jobs_progress")),
        sa.ForeignKeyConstraint(["video_id"], ["videos.id"], name=op.f("fk_jobs_video_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("video_id", name=op.f("uq_jobs_video_id")),
    )
    op.create_index(
        "ix_jobs_lease_expires_at",
        "jobs",
        ["lease_expires_at"],
        postgresql_where=sa.text("lease_expires_at IS NOT NULL"),
        sqlite_where=sa.text("lease_expires_at IS NOT NULL"),
    )
    op.create_index("ix_jobs_status", "jobs", ["status"])
    op.create_index(
        "ix_jobs_upload_expires_at",
        "jobs",
        ["upload_expires_at"],
        postgresql_where=sa.text("upload_expires_at IS NOT NULL"),
        sqlite_where=sa.text("upload_expires_at IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_waiting",
        "jobs",
        ["enqueued_at"],
        postgresql_where=sa.text("lease_owner IS NULL AND status IN ('uploaded', 'processing')"),
        sqlite_where=sa.text("lease_owner IS NULL AND status IN ('uploaded', 'processing')"),
    )
    op.create_table(
        "attempts",
        sa.Column("id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("result_key", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger()),
        sa.Column("ending", sa.Text()),
        sa.Column("error_code", sa.Text()),
        sa.Column("error_message", sa.Text()),
        sa.CheckConstraint(
            "ending IN ('processed', 'rejected', 'failed', 'interrupted', 'lost', 'superseded')",
            name=op.f("ck_attempts_ending"),
        ),
        sa.CheckConstraint("(ended_at IS NULL) = (ending IS NULL)", name=op.f("ck_attempts_ended_whole")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_attempts_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        sa.UniqueConstraint("job_id", "fence", name=op.f("uq_attempts_job_id_fence")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("video_id", ID, nullable=False),
        sa.Column("fingerprint", sa.Text()),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["video_id"],
            ["videos.id"],
            name=op.f("fk_idempotency_keys_video_id"),
            ondelete="CASCADE",
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("owner", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_expires_at"), "idempotency_keys", ["expires_at"])
    op.create_index(op.f("ix_idempotency_keys_video_id"), "idempotency_keys", ["video_id"])
    op.create_table(
        "outbox",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("send_after", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.Text()),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_outbox_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("job_id", name=op.f("uq_outbox_job_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_outbox_send_after"), "outbox", ["send_after"])
    op.create_table(
        "job_events",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("video_id", ID, nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("progress", sa.Float(precision=53), nullable=False),
        sa.Column("error_code", sa.Text()),
        sa.Column("error_message", sa.Text()),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('status', 'progress', 'attempt', 'deleted')", name=op.f("ck_job_events_kind")),
        sa.CheckConstraint(
            "status IN ('uploading', 'uploaded', 'processing', 'processed', 'failed', 'dead_lettered', 'cancelled')",
            name=op.f("ck_job_events_status"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_events")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_job_events_at"), "job_events", ["at"])
    op.create_index("ix_job_events_video_id", "job_events", ["video_id", "id"])
    op.create_table(
        "feed_cursors",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_feed_cursors")),
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("video_id", ID),
        sa.Column("generation", sa.Integer()),
        sa.Column("message_id", sa.Text()),
        sa.Column("body", sa.Text()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "cause IN ('failures', 'worker_lost', 'unknown_job', 'unreadable')", name=op.f("ck_dead_letters_cause")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
        sa.UniqueConstraint("message_id", name=op.f("uq_dead_letters_message_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_dead_letters_video_id"), "dead_letters", ["video_id"])
    op.create_table(
        "object_deletions",
        sa.Column("id", NUMBER, autoincrement=True, nullable=False),
        sa.Column("video_id", ID, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("delete_after", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "reason IN ('abandoned_upload', 'losing_attempt', 'tombstone')", name=op.f("ck_object_deletions_reason")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_object_deletions")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_object_deletions_delete_after"), "object_deletions", ["delete_after"])
    op.create_index(op.f("ix_object_deletions_key"), "object_deletions", ["key"])
    op.create_index(op.f("ix_object_deletions_video_id"), "object_deletions", ["video_id"])
    op.create_table(
        "api_tokens",
        sa.Column("id", ID, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger()),
        sa.Column("revoked_at", sa.BigInteger()),
        sa.CheckConstraint("scope IN ('user', 'ops')", name=op.f("ck_api_tokens_scope")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_tokens")),
        sa.UniqueConstraint("hash", name=op.f("uq_api_tokens_hash")),
    )
    op.create_table(
        "locks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_locks")),
    )
