"""The tables of the store.

Times are whole milliseconds since 1970, by the database's clock. Constraints allow only known statuses and causes.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    and_,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from anb_core.domain.model import DeadLetterCause, DeletionReason, Ending, EventKind, Scope
from anb_core.domain.status import Status

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def milliseconds(duration: timedelta) -> int:
    """Return a duration in whole milliseconds, rounded down."""
    return duration // timedelta(milliseconds=1)


_FIRST = milliseconds(datetime.min.replace(tzinfo=UTC) - EPOCH)
_LAST = milliseconds(datetime.max.replace(tzinfo=UTC) - EPOCH)


class Time(TypeDecorator[datetime]):
    """A datetime with timezone UTC, stored as milliseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - interface
        return None if value is None else milliseconds(value - EPOCH)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - interface
        # Replace a number outside datetime's range by the nearest limit. An error would make the whole query fail.
        return None if value is None else EPOCH + timedelta(milliseconds=max(_FIRST, min(value, _LAST)))


class Words(TypeDecorator[str]):
    """Text from any source, such as other programs' messages. Characters that a database can't store are replaced."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - interface
        # PostgreSQL can't store the character NUL, and UTF-8 can't encode a lone surrogate.
        return (
            None
            if value is None
            else value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
        )


class Id(Words):
    """An id. The collation C makes PostgreSQL compare ids byte by byte, as SQLite does."""

    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        return Text(collation="C" if dialect.name == "postgresql" else None)


# SQLite generates ids only for a column of type INTEGER.
_Number = BigInteger().with_variant(Integer, "sqlite")
_Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _one_of(column: str, values: Iterable[StrEnum]) -> CheckConstraint:
    allowed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({allowed})", name=column)


def _id_column() -> Column[Any]:
    return Column("id", _Number, primary_key=True, autoincrement=True)


videos = Table(
    "videos",
    metadata,
    Column("id", Id, primary_key=True),
    Column("owner", Words, nullable=False),
    Column("title", Words, nullable=False),
    Column("edit", _Json, nullable=False),
    Column("source_key", Words, nullable=False, index=True),
    Column("owned", Boolean, nullable=False),
    Column("file_name", Words, nullable=False),
    Column("source_size", BigInteger),
    Column("source_sha256", Words),
    Column("created_at", Time, nullable=False),
    Column("deleted_at", Time),
    Column("purge_after", Time),
    Column("process_after", Time),
)
Index("ix_videos_owner_created_at", videos.c.owner, videos.c.created_at, videos.c.id)
Index("ix_videos_created_at", videos.c.created_at, videos.c.id)
Index(
    "ix_videos_purge_after",
    videos.c.purge_after,
    postgresql_where=videos.c.purge_after.is_not(None),
    sqlite_where=videos.c.purge_after.is_not(None),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("video_id", Id, ForeignKey("videos.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("status", Words, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("lost", Integer, nullable=False),
    Column("interruptions", Integer, nullable=False),
    Column("progress", Float(53), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("lease_owner", Words),
    Column("lease_expires_at", Time),
    Column("worker", Words),
    Column("not_before", Time),
    Column("upload_expires_at", Time),
    Column("enqueued_at", Time),
    Column("enqueued_to", Words),
    Column("error_code", Words),
    Column("error_message", Words),
    Column("result", _Json),
    # The column `answered` is a copy of `receipts` for older programs. Migration 0004 says when it can be removed.
    Column("answered", _Json),
    Column("receipts", _Json),
    Column("created_at", Time, nullable=False),
    Column("updated_at", Time, nullable=False),
    _one_of("status", Status),
    CheckConstraint("(lease_owner IS NULL) = (lease_expires_at IS NULL)", name="lease_whole"),
    CheckConstraint("lease_owner IS NULL OR status = 'processing'", name="lease_status"),
    CheckConstraint("(upload_expires_at IS NULL) = (status <> 'uploading')", name="upload_expires"),
    CheckConstraint("(result IS NULL) = (status <> 'processed')", name="result"),
    CheckConstraint("progress BETWEEN 0 AND 1", name="progress"),
)


def waiting() -> ColumnElement[bool]:
    """Return an SQL condition that is true for a job that waits for a worker to receive its message.

    The condition has literals instead of bound parameters. Otherwise queries could not use the partial index.
    """
    statuses: list[ColumnElement[str]] = [
        literal_column(f"'{status}'") for status in (Status.UPLOADED, Status.PROCESSING)
    ]
    return and_(jobs.c.lease_owner.is_(None), jobs.c.status.in_(statuses))


Index("ix_jobs_status", jobs.c.status)
Index("ix_jobs_waiting", jobs.c.enqueued_at, postgresql_where=waiting(), sqlite_where=waiting())
Index(
    "ix_jobs_lease_expires_at",
    jobs.c.lease_expires_at,
    postgresql_where=jobs.c.lease_expires_at.is_not(None),
    sqlite_where=jobs.c.lease_expires_at.is_not(None),
)
Index(
    "ix_jobs_upload_expires_at",
    jobs.c.upload_expires_at,
    postgresql_where=jobs.c.upload_expires_at.is_not(None),
    sqlite_where=jobs.c.upload_expires_at.is_not(None),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("worker", Words, nullable=False),
    Column("result_key", Words, nullable=False),
    Column("started_at", Time, nullable=False, index=True),
    Column("ended_at", Time),
    Column("ending", Words),
    Column("error_code", Words),
    Column("error_message", Words),
    Column("error_detail", Words),
    Column("version", Words),
    _one_of("ending", Ending),
    CheckConstraint("(ended_at IS NULL) = (ending IS NULL)", name="ended_whole"),
    UniqueConstraint("job_id", "fence"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("owner", Words, nullable=False),
    Column("key", Words, nullable=False),
    # The foreign key is checked only at the commit, because this row is inserted before its video.
    Column(
        "video_id",
        Id,
        ForeignKey("videos.id", ondelete="CASCADE", deferrable=True, initially="DEFERRED"),
        nullable=False,
        index=True,
    ),
    Column("fingerprint", Words),
    Column("expires_at", Time, nullable=False, index=True),
    PrimaryKeyConstraint("owner", "key"),
)

outbox = Table(
    "outbox",
    metadata,
    _id_column(),
    Column("job_id", Id, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, unique=True),
    # Owner of the video. Programs from before migration 0008 leave the owner empty.
    Column("owner", Words, nullable=False, server_default=text("''")),
    # The entry is due at this time. A relay that takes the entry sets a later time, so that no other relay takes it.
    Column("send_after", Time, nullable=False, index=True),
    Column("token", Words),
    Column("tries", Integer, nullable=False),
    Column("created_at", Time, nullable=False),
    # Ids are never reused, because a FIFO queue drops a message whose id it has seen before.
    sqlite_autoincrement=True,
)
Index("ix_outbox_owner_send_after", outbox.c.owner, outbox.c.send_after, outbox.c.id)

# The usage of an owner is the sum of the rows of the owner. Triggers of migration 0006 add a row for each change, so
# changes by programs of all versions are counted. The triggers only insert rows, so no transaction waits for another
# one. `purge` merges the rows.
usage = Table(
    "usage",
    metadata,
    _id_column(),
    Column("owner", Words, nullable=False),
    Column("unfinished", Integer, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    # Set only in the row for the announced size of a running upload. A trigger deletes this row when the upload ends.
    Column("video_id", Id, ForeignKey("videos.id", ondelete="CASCADE"), unique=True),
)
Index("ix_usage_owner", usage.c.owner, usage.c.unfinished, usage.c.stored_bytes)

# This table has no foreign keys, because events remain after their video was deleted.
job_events = Table(
    "job_events",
    metadata,
    _id_column(),
    Column("kind", Words, nullable=False),
    Column("video_id", Id, nullable=False),
    Column("job_id", Id, nullable=False),
    Column("owner", Words, nullable=False),
    Column("version", Integer, nullable=False),
    Column("status", Words, nullable=False),
    Column("progress", Float(53), nullable=False),
    Column("error_code", Words),
    Column("error_message", Words),
    Column("at", Time, nullable=False, index=True),
    _one_of("kind", EventKind),
    _one_of("status", Status),
    sqlite_autoincrement=True,
)
Index("ix_job_events_video_id", job_events.c.video_id, job_events.c.id)

feed_cursors = Table(
    "feed_cursors",
    metadata,
    Column("name", Words, primary_key=True),
    Column("event_id", BigInteger, nullable=False),
)

# This table has no foreign keys: a dead letter may have no video, and remains after its video was deleted.
dead_letters = Table(
    "dead_letters",
    metadata,
    _id_column(),
    Column("cause", Words, nullable=False),
    Column("detail", Words, nullable=False),
    Column("video_id", Id, index=True),
    Column("generation", Integer),
    Column("message_id", Words, unique=True),
    Column("body", Words),
    Column("created_at", Time, nullable=False),
    Column("owner", Words),
    Column("code", Words),
    Column("error_detail", Words),
    Column("worker", Words),
    Column("version", Words),
    Column("failures", Integer),
    Column("lost", Integer),
    # NULL means that the dead letter is open.
    # Programs from before migration 0005 write NULL into the column `owner` and into all columns after `owner`.
    Column("resolution", Words),
    Column("resolved_at", Time),
    Column("resolved_by", Words),
    Column("reason", Words),
    Column("announced_at", Time),
    _one_of("cause", DeadLetterCause),
    sqlite_autoincrement=True,
)
Index("ix_dead_letters_created_at", dead_letters.c.created_at, dead_letters.c.id)
Index("ix_dead_letters_announced_at", dead_letters.c.announced_at)
Index(
    "ix_dead_letters_open",
    dead_letters.c.created_at,
    dead_letters.c.id,
    postgresql_where=dead_letters.c.resolution.is_(None),
    sqlite_where=dead_letters.c.resolution.is_(None),
)

# This table has no foreign keys: an object is deleted later than the rows of its abandoned upload.
object_deletions = Table(
    "object_deletions",
    metadata,
    _id_column(),
    Column("video_id", Id, nullable=False, index=True),
    Column("key", Words, nullable=False, index=True),
    Column("reason", Words, nullable=False),
    # The deletion is due at this time. A process that takes it sets a later time, so that no other process takes it.
    Column("delete_after", Time, nullable=False, index=True),
    _one_of("reason", DeletionReason),
    sqlite_autoincrement=True,
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", Id, primary_key=True),
    Column("owner", Words, nullable=False),
    Column("scope", Words, nullable=False),
    Column("hash", Words, nullable=False, unique=True),
    Column("created_at", Time, nullable=False),
    Column("expires_at", Time),
    Column("revoked_at", Time),
    _one_of("scope", Scope),
)

# Locks that only one process at a time can hold. Each lock is a row that expires.
# Locks of PostgreSQL sessions can't be used. A pooler may give the session that holds a lock to another client.
locks = Table(
    "locks",
    metadata,
    Column("name", Words, primary_key=True),
    Column("holder", Words, nullable=False),
    Column("expires_at", Time, nullable=False),
)
