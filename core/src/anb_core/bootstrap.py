"""Creates the store, the bucket, the queue and the use cases for the programs.

Only this module knows which adapter implements which port.
This module opens no connection. The store, the bucket and the queue connect when they are first used.
The caller must close each store, bucket and queue that it has created.
"""

from collections.abc import Callable
from datetime import timedelta

from anb_core.adapters.database import SqlStore, upgrade
from anb_core.adapters.s3 import S3Objects
from anb_core.adapters.sns import SnsAlerts
from anb_core.adapters.sqs import SqsQueue
from anb_core.adapters.system import new_id
from anb_core.ports.alerts import Alerts
from anb_core.ports.objects import Objects
from anb_core.ports.queue import Queue, QueueAdmin
from anb_core.ports.runtime import Runtime
from anb_core.ports.store import Housekeeping, Store, Uploads
from anb_core.settings.capabilities import (
    AlertSettings,
    BucketSettings,
    DatabaseSettings,
    QueueSettings,
    StoreSettings,
    SubmitSettings,
    SweepSettings,
    UploadSettings,
)
from anb_core.usecases.submit import Submit
from anb_core.usecases.sweep import Sweep
from anb_core.usecases.upload_session import UploadSessions


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
    """Create the client of the queue. A call ends within about one heartbeat, and delays at most one lease renewal."""
    return SqsQueue(
        settings.sqs_queue_url,
        region=settings.sqs_region,
        patience=settings.heartbeat,
        visibility=settings.visibility_timeout,
        max_receives=settings.max_receive_count,
        dlq_url=settings.sqs_dlq_url,
        may_create=settings.create_resources,
    )


def open_alerts(settings: AlertSettings, *, patience: timedelta) -> Alerts | None:
    """Create the client that sends alerts. None if no topic is set. Each call ends within about `patience`."""
    return SnsAlerts(settings.sns_topic_arn, patience=patience) if settings.sns_topic_arn else None


def make_uploads(
    settings: UploadSettings, store: Uploads, objects: Objects, *, wake_relay: Callable[[], None], runtime: Runtime
) -> UploadSessions:
    """Create the use case that begins uploads."""
    return UploadSessions(
        store=store,
        objects=objects,
        max_bytes=settings.max_upload_bytes,
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


def make_sweep(
    settings: SweepSettings,
    store: Housekeeping,
    objects: Objects,
    queue: QueueAdmin,
    *,
    wake_relay: Callable[[], None],
    runtime: Runtime,
) -> Sweep:
    """Create the sweep."""
    return Sweep(
        store,
        objects,
        queue,
        policy=settings.retry_policy,
        interval=settings.sweep_interval,
        hidden=settings.visibility_timeout,
        wake_relay=wake_relay,
        runtime=runtime,
    )
