"""Opens the store, bucket and queue that environment variables name, for tests that act as an API or a worker."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from anb_core.bootstrap import migrate, open_bucket, open_queue, open_store
from anb_core.ports.objects import Objects
from anb_core.ports.queue import Queue
from anb_core.ports.store import Store
from anb_core.settings.capabilities import BucketSettings, QueueSettings, StoreSettings
from anb_core.settings.loading import load


class PartsSettings(QueueSettings, BucketSettings, StoreSettings):
    pass


@dataclass(frozen=True, slots=True)
class Parts:
    store: Store
    objects: Objects
    queue: Queue


@contextmanager
def opened_parts() -> Iterator[Parts]:
    """Migrate the database, create the bucket, and open the store, bucket and queue that environment variables name."""
    settings = load(PartsSettings)
    migrate(settings)
    with (
        closing(open_store(settings)) as store,
        closing(open_bucket(settings, patience=settings.heartbeat)) as objects,
        closing(open_queue(settings)) as queue,
    ):
        objects.ensure()
        yield Parts(store, objects, queue)
