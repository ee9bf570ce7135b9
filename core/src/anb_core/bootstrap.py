"""Wires the parts together; the one place that knows which adapter stands behind which port."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self

from anb_core.adapters.database import SqlStore, upgrade
from anb_core.adapters.s3 import S3Objects
from anb_core.adapters.sqs import SqsQueue
from anb_core.adapters.system import SystemRuntime, new_id
from anb_core.ports.objects import Objects
from anb_core.ports.queue import Queue
from anb_core.ports.store import Store, Uploads
from anb_core.settings.capabilities import DatabaseSettings, Settings
from anb_core.usecases.sweep import Sweep
from anb_core.usecases.upload_session import UploadSessions


@dataclass(frozen=True, slots=True)
class Core:
    """All that a process works with. Use it as a context manager, or call `close`."""

    settings: Settings
    store: Store
    objects: Objects
    queue: Queue

    def sweep(self, wake_relay: Callable[[], None]) -> Sweep:
        """The sweep, the same in every process that runs one."""
        return Sweep(
            self.store,
            self.objects,
            self.queue,
            policy=self.settings.retry_policy,
            interval=self.settings.sweep_interval,
            hidden=self.settings.visibility_timeout,
            wake_relay=wake_relay,
            runtime=SystemRuntime(),
        )

    def close(self) -> None:
        """Let go of every connection."""
        with ExitStack() as stack:
            for part in (self.store, self.objects, self.queue):
                stack.callback(part.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def build(settings: Settings) -> Core:
    """Connect nothing yet: every part connects when it is first used."""
    return Core(
        settings=settings,
        store=SqlStore(
            settings.database_url.get_secret_value(),
            connections=settings.database_connections,
            in_all=settings.database_connections_in_all,
        ),
        objects=S3Objects(
            settings.s3_bucket,
            region=settings.aws_region,
            patience=settings.heartbeat,
            public_endpoint=settings.s3_public_endpoint,
            may_create=settings.create_resources,
        ),
        queue=SqsQueue(
            settings.sqs_queue_url,
            region=settings.sqs_region,
            patience=settings.heartbeat,
            visibility=settings.visibility_timeout,
            max_receives=settings.max_receive_count,
            dlq_url=settings.sqs_dlq_url,
            may_create=settings.create_resources,
        ),
    )


def open_store(settings: DatabaseSettings) -> Store:
    """The store alone, for migrations and tokens."""
    return SqlStore(settings.database_url.get_secret_value())


def migrate(settings: DatabaseSettings) -> None:
    """Bring the database's schema to what this program needs."""
    upgrade(settings.database_url.get_secret_value())


def make_uploads(
    store: Uploads, objects: Objects, *, max_bytes: int, idempotency_lifetime: timedelta, wake_relay: Callable[[], None]
) -> UploadSessions:
    """What begins uploads."""
    return UploadSessions(
        store=store,
        objects=objects,
        max_bytes=max_bytes,
        idempotency_lifetime=idempotency_lifetime,
        wake_relay=wake_relay,
        runtime=SystemRuntime(),
        new_id=new_id,
    )
