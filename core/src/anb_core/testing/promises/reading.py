"""Reads the evidence from the real parts or from the in-memory fakes. Changes nothing, and receives no message."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import select

from anb_core.adapters.database.dead_letter_rows import WHOLE, dead_letter_of
from anb_core.adapters.database.engine import Database, clock, is_postgresql
from anb_core.adapters.database.feed import event_of
from anb_core.adapters.database.rows import RECORDS, attempt_of, record_of
from anb_core.adapters.database.tables import attempts, dead_letters, feed_cursors, job_events, object_deletions, outbox
from anb_core.domain.effect import ScheduledDeletion
from anb_core.domain.model import DeletionReason
from anb_core.ports.queue import QueueAdmin
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.promises.evidence import Evidence, Shown
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.store import InMemoryStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

_COUNTS: "Sequence[QueueAttributeNameType]" = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


def read_evidence(
    database: Database,
    *,
    s3: "S3Client | None" = None,
    bucket: str = "",
    sqs: "SQSClient | None" = None,
    queue_urls: Sequence[str] = (),
    queues: Sequence[QueueAdmin] = (),
    receipts: Collection[str] = (),
    videojobs: Mapping[str, Shown] | None = None,
) -> Evidence:
    """Read the database in one snapshot. Then list the bucket if `s3` is given, and count the messages of all queues.

    The queues are those of `queue_urls`, if `sqs` is given, and those in `queues`, such as one on a Celery broker.
    Messages are only counted, because their bodies can't be read without receiving them.
    Leave out the queues while processes send or delete messages. Otherwise the count does not match the
    rows, which are read earlier.

    Raises:
        Unreadable: this version can't read a row.
    """
    # First of all, because an upload that ends meanwhile adds its receipt, and has no complete row in the snapshot.
    honoured = frozenset(receipts)
    with database.reading() as connection:
        if is_postgresql(connection):
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        now = clock(connection)
        rows = connection.execute(RECORDS).all()
        deletions = connection.execute(select(object_deletions).order_by(object_deletions.c.id))
        evidence = Evidence(
            now=now,
            records=[record_of(row) for row in rows],
            deleted={row.videos_id for row in rows if row.videos_deleted_at},
            attempts=[attempt_of(row) for row in connection.execute(select(attempts))],
            outbox=connection.scalars(select(outbox.c.job_id)).all(),
            events=[event_of(row) for row in connection.execute(select(job_events).order_by(job_events.c.id))],
            dead_letters=[dead_letter_of(row) for row in connection.execute(WHOLE.order_by(dead_letters.c.id))],
            deletions=[ScheduledDeletion(row.key, DeletionReason(row.reason), row.delete_after) for row in deletions],
            cursors={row.name: row.event_id for row in connection.execute(select(feed_cursors))},
            receipts=honoured,
            videojobs=videojobs,
        )
    return replace(
        evidence,
        objects=None if s3 is None else _objects(s3, bucket),
        message_count=_count_all(sqs, queue_urls, queues),
    )


def in_memory_evidence(
    store: InMemoryStore,
    objects: InMemoryObjects | None = None,
    queue: InMemoryQueue | None = None,
    *,
    receipts: Collection[str] = (),
    videojobs: Mapping[str, Shown] | None = None,
) -> Evidence:
    """Copy the tables of the in-memory store, and the contents of the in-memory bucket and queue if given."""
    with store.transaction() as now:
        return Evidence(
            now=now,
            records=[row.record for row in store.rows.values()],
            deleted={video_id for video_id, row in store.rows.items() if row.deleted_at},
            attempts=[attempt for row in store.rows.values() for attempt in row.attempts],
            outbox=[store.rows[video_id].job.id for video_id in store.outbox],
            events=list(store.events),
            dead_letters=list(store.letters),
            deletions=[
                ScheduledDeletion(kept.scheduled.key, kept.scheduled.reason, kept.due) for kept in store.deletions
            ],
            cursors=dict(store.cursors),
            objects={key: len(data) for key, data in objects.contents.items()} if objects else None,
            messages=[*queue.bodies(), *queue.dead_letters.bodies()] if queue else None,
            sent=[message.body for message in queue.sent] if queue else (),
            receipts=frozenset(receipts),
            videojobs=videojobs,
        )


def _objects(s3: "S3Client", bucket: str) -> dict[str, int]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {found["Key"]: found["Size"] for page in pages for found in page.get("Contents", [])}


def _count_all(sqs: "SQSClient | None", urls: Sequence[str], queues: Sequence[QueueAdmin]) -> int | None:
    """Return the number of messages in all given queues together, or None if no queue is given."""
    if sqs is None and not queues:
        return None
    depths = [queue.depth() for queue in queues]
    others = sum(depth.visible + depth.in_flight + depth.delayed for depth in depths)
    return others + (0 if sqs is None else sum(_count(sqs, url) for url in urls))


def _count(sqs: "SQSClient", url: str) -> int:
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[*_COUNTS])["Attributes"]
    return sum(int(counts[name]) for name in _COUNTS)
