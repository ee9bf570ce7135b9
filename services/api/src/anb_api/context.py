"""The objects that routes need, as FastAPI dependencies."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from anb_api.checks import Checks
from anb_api.feed import Hub
from anb_api.metrics import Metrics
from anb_api.settings import ApiSettings
from anb_api.slots import Slots, too_many_streams, too_many_uploads
from anb_core.ports.objects import Objects
from anb_core.ports.queue import QueueAdmin
from anb_core.ports.store import Store
from anb_core.usecases.adopt_many import AdoptMany
from anb_core.usecases.reconcile import Reconcile
from anb_core.usecases.relay import Relay
from anb_core.usecases.sweep import Sweep
from anb_core.usecases.upload_session import UploadSessions

MAX_UPLOADS = 16
"""Maximum number of uploads that one process receives at the same time. Each upload has a thread."""

MAX_STREAMS = 256
"""Maximum number of open event streams of one process: half of the maximum number of connections."""


BULK_THREADS = 8
"""Maximum number of dead letters or objects that one process redrives, adopts or reads at the same time."""


@dataclass(frozen=True, slots=True)
class Context:
    """The objects that all requests of one app share."""

    settings: ApiSettings
    store: Store
    objects: Objects
    queues: Sequence[QueueAdmin]
    uploads: UploadSessions
    relay: Relay
    sweep: Sweep
    hub: Hub
    metrics: Metrics
    checks: Checks
    adopt_many: AdoptMany
    reconcile: Reconcile
    upload_slots: Slots = field(default_factory=lambda: Slots(MAX_UPLOADS, too_many_uploads))
    stream_slots: Slots = field(default_factory=lambda: Slots(MAX_STREAMS, too_many_streams))
    upload_threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(MAX_UPLOADS, thread_name_prefix="upload")
    )
    bulk_threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(BULK_THREADS, thread_name_prefix="bulk")
    )


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


CurrentContext = Annotated[Context, Depends(_context)]


def _prefix(request: Request) -> str:
    prefix: str = request.state.prefix
    return prefix


Prefix = Annotated[str, Depends(_prefix)]
"""The API's path prefix in the client's URLs, such as `/video`, or "". RequestMiddleware sets the prefix."""
