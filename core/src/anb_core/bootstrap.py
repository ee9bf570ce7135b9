"""Creates the store, the bucket, the queue and the use cases for the programs.

Only this module knows which adapter implements which port.
This module opens no connection. The store, the bucket and the queue connect when they are first used.
The caller must close each store, bucket and queue that it has created.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from anb_core.adapters.cloudwatch import CloudWatchMetrics
from anb_core.adapters.database import SqlStore, upgrade
from anb_core.adapters.s3 import S3Objects
from anb_core.adapters.sns import SnsAlerts
from anb_core.adapters.sqs import SqsQueue
from anb_core.adapters.system import new_id
from anb_core.domain.dead_letters import DeadLetter
from anb_core.domain.errors import Unavailable
from anb_core.domain.limits import Limits
from anb_core.ports.alerts import Alerts
from anb_core.ports.metrics import MetricSink
from anb_core.ports.objects import Objects
from anb_core.ports.queue import Queue, QueueAdmin, QueueReceiver
from anb_core.ports.runtime import Event, Runtime
from anb_core.ports.store import Housekeeping, Store, Uploads
from anb_core.settings.capabilities import (
    AlertSettings,
    BucketSettings,
    DatabaseSettings,
    DeadLetterQueueSettings,
    MetricSettings,
    QueueSettings,
    RetrySettings,
    StoreSettings,
    SubmitSettings,
    SweepSettings,
    UploadSettings,
)
from anb_core.telemetry import DeadLetterMetrics
from anb_core.usecases.adopt_many import AdoptMany
from anb_core.usecases.announce_dead_letters import AnnounceDeadLetters
from anb_core.usecases.receive_dead_letters import VISIBILITY, ReceiveDeadLetters
from anb_core.usecases.submit import Submit
from anb_core.usecases.sweep import Sweep
from anb_core.usecases.upload_session import UploadSessions, UploadStore


def migrate(settings: DatabaseSettings) -> None:
    """Migrate the database's schema to the newest version that this program knows."""
    upgrade(settings.database_url.get_secret_value())


def open_store(settings: StoreSettings) -> Store:
    """Create the store of a long-running program."""
    return SqlStore(
        settings.database_url.get_secret_value(),
        connections=settings.database_connections,
        in_all=settings.database_connections_in_all,
    )


def open_store_for_command(settings: DatabaseSettings) -> Store:
    """Create the store of a short command. This store opens at most one connection."""
    return SqlStore(settings.database_url.get_secret_value(), connections=1)


def open_bucket(settings: BucketSettings, *, patience: timedelta, public_endpoint: str | None = None) -> Objects:
    """Create the client of the bucket. Each of its calls ends within about `patience`.

    Download URLs begin with `public_endpoint`, if given.
    """
    return S3Objects(
        settings.s3_bucket,
        region=settings.aws_region,
        patience=patience,
        public_endpoint=public_endpoint,
        may_create=settings.create_resources,
    )


def open_queue(settings: QueueSettings) -> Queue:
    """Create the client of the current queue: on SQS if `SQS_QUEUE_URL` is set, otherwise on the Celery broker.

    A call ends within about one heartbeat. So even a slow call delays only one renewal of the lease.
    """
    if not settings.sqs_queue_url:
        return _open_celery_queue(settings)
    return SqsQueue(
        settings.sqs_queue_url,
        region=settings.sqs_region,
        patience=settings.heartbeat,
        visibility=settings.visibility_timeout,
        max_receives=settings.max_receive_count,
        dlq_url=settings.sqs_dlq_url,
        may_create=settings.create_resources,
    )


def open_old_queue(settings: QueueSettings) -> Queue | None:
    """Create the client of the old queue: on the Celery broker, if `SQS_QUEUE_URL` is set, too. Otherwise None.

    Workers empty the old queue, and nothing sends to it. A call ends within about one heartbeat.
    """
    if settings.sqs_queue_url and settings.celery_broker_url:
        return _open_celery_queue(settings)
    return None


def _open_celery_queue(settings: QueueSettings) -> Queue:
    # The import takes 0.2 s, and most programs use only SQS.
    from anb_core.adapters.celery_broker import celery_queue  # noqa: PLC0415

    return celery_queue(
        settings.celery_broker_url.get_secret_value(),
        queue=settings.celery_queue,
        patience=settings.heartbeat,
        visibility=settings.visibility_timeout,
    )


def open_dead_letter_queue(settings: DeadLetterQueueSettings, *, patience: timedelta) -> Queue | None:
    """Create the client of the dead-letter queue, for programs that receive its messages.

    A call ends within about `patience`.

    Returns None if the queue is on a Celery broker, which has no dead-letter queue.
    """
    if not settings.sqs_dlq_url:
        return None
    return SqsQueue(
        settings.sqs_dlq_url,
        region=settings.sqs_region,
        patience=patience,
        visibility=VISIBILITY,
        may_create=settings.create_resources,
    )


def open_alerts(settings: AlertSettings, *, patience: timedelta) -> Alerts | None:
    """Create the client that sends alerts. None if no topic is set. Each call ends within about `patience`."""
    return SnsAlerts(settings.sns_topic_arn, patience=patience) if settings.sns_topic_arn else None


def open_metrics(settings: MetricSettings, *, release: str, patience: timedelta) -> MetricSink | None:
    """Create the client that sends the metrics of a release to CloudWatch. None if no namespace is set.

    Each call ends within about `patience`.
    """
    if settings.cloudwatch_namespace is None:
        return None
    return CloudWatchMetrics(
        settings.cloudwatch_namespace, release=release, region=settings.aws_region, patience=patience
    )


def make_uploads(
    settings: UploadSettings, store: UploadStore, objects: Objects, *, wake_relay: Callable[[], None], runtime: Runtime
) -> UploadSessions:
    """Create the use case that begins uploads."""
    return UploadSessions(
        store=store,
        objects=objects,
        max_bytes=settings.max_upload_bytes,
        limits=settings.limits,
        idempotency_lifetime=settings.idempotency_lifetime,
        wake_relay=wake_relay,
        runtime=runtime,
        new_id=new_id,
    )


def make_submit(
    settings: SubmitSettings, store: Uploads, objects: Objects, *, wake_relay: Callable[[], None]
) -> Submit:
    """Create the use case that submits objects that are already in the bucket."""
    return Submit(
        store,
        objects,
        max_bytes=settings.max_upload_bytes,
        source_prefixes=settings.source_prefixes,
        wake_relay=wake_relay,
        new_id=new_id,
    )


def make_adopt_many(
    settings: SubmitSettings,
    store: Uploads,
    objects: Objects,
    *,
    limits: Limits,
    wake_relay: Callable[[], None],
) -> AdoptMany:
    """Create the use case that adopts the objects under a prefix."""
    return AdoptMany(
        store=store,
        objects=objects,
        submit=make_submit(settings, store, objects, wake_relay=wake_relay),
        limits=limits,
    )


def make_sweep(
    settings: SweepSettings,
    store: Housekeeping,
    objects: Objects,
    queues: Sequence[QueueAdmin],
    *,
    wake_relay: Callable[[], None],
    runtime: Runtime,
) -> Sweep:
    """Create the sweep. `queues` are the current queue and the old queue, if there is one."""
    return Sweep(
        store,
        objects,
        queues,
        policy=settings.retry_policy,
        interval=settings.sweep_interval,
        hidden=settings.visibility_timeout,
        wake_relay=wake_relay,
        runtime=runtime,
    )


@dataclass(frozen=True, slots=True)
class DeadLetterLoops:
    """The loops that handle dead letters. `anb_core.usecases.background` runs them."""

    receive: ReceiveDeadLetters | None
    """The loop that receives the messages of the dead-letter queue. None if there is no such queue."""
    announce: AnnounceDeadLetters

    @property
    def loops(self) -> Mapping[str, Callable[[Event], None]]:
        """Return a mapping of the loops' names to the loops."""
        receive = {"dead letter queue": self.receive.run} if self.receive else {}
        return {**receive, "dead letter alerts": self.announce.run}

    def outage(self) -> Unavailable | None:
        """Return the error if the dead-letter queue does not answer, for the readiness check. Never blocks."""
        return self.receive.outage() if self.receive else None


def make_dead_letter_loops(
    settings: RetrySettings,
    store: Store,
    queue: QueueReceiver | None,
    alerts: Alerts | None,
    *,
    metrics: DeadLetterMetrics,
    runtime: Runtime,
    on_record: Callable[[DeadLetter], None] = lambda _: None,
) -> DeadLetterLoops:
    """Create the loops that receive the messages of the dead-letter queue and announce dead letters.

    If `queue` is None, no loop receives messages.

    `on_record` is called once with each new dead letter, in the thread of a loop. It must not block for long.
    """

    def on_new(dead_letter: DeadLetter) -> None:
        metrics.count_announced(dead_letter)
        on_record(dead_letter)

    receive = None
    if queue is not None:
        receive = ReceiveDeadLetters(
            store, queue, policy=settings.retry_policy, runtime=runtime, on_receipt=metrics.count_message
        )
    return DeadLetterLoops(receive, AnnounceDeadLetters(store, alerts, on_record=on_new, runtime=runtime))
