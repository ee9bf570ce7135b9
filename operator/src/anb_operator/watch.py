"""The watch for VideoJobs. kopf runs the watch, and a handler passes each event to the cache and the queue."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from itertools import chain, repeat
from typing import Any

import kopf
import structlog

from anb_core.domain.errors import Unavailable
from anb_operator.cache import VideoJobCache
from anb_operator.client import PAGE, read_videojob
from anb_operator.connection import TIMEOUT_SECONDS, log_in
from anb_operator.stopping import stop_on_signals
from anb_operator.videojob import GROUP, PLURAL, VERSION
from anb_operator.workqueue import WorkQueue

PAUSE_SECONDS = 2.0
"""Seconds between a failed watch and the next watch."""

_log = structlog.get_logger(__name__)


class Backoffs:
    """Seconds between kopf's retries of a request. The retries never end, because an outage may last long."""

    def __iter__(self) -> Iterator[float]:
        return chain((1.0, 1.0, 2.0, 3.0, 5.0, 8.0), repeat(10.0))


class _NoDiff(kopf.DiffBaseStorage):
    """Turns off kopf's diffs of objects, which the operator does not use. Diffs take a third of kopf's CPU time."""

    def build(self, **_: object) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: object) -> None:
        """Return None, because `store` has not stored an earlier state of the object."""

    def store(self, **_: object) -> None:
        """Do nothing: no state of the object is stored."""


async def watch(watched: str | None, cache: VideoJobCache, queue: WorkQueue, stop: asyncio.Event) -> None:
    """Watch the VideoJobs of one namespace, or of all namespaces (None), until `stop` is set.

    Also returns after an error that kopf does not retry, such as a deleted CRD.
    """
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_log_in)
    kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)(_on_event(cache, queue))
    ours = asyncio.all_tasks()
    try:
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=_settings(),
            standalone=True,
            clusterwide=watched is None,
            namespaces=[] if watched is None else [watched],
            stop_flag=stop,
        )
        # kopf has installed its own signal handlers, which do nothing after kopf ends. So install ours again.
        stop_on_signals(stop)
        await kopf.run_tasks(tasks, ignored=ours)
    except Exception as error:  # noqa: BLE001 - whatever it is, a new watch is the remedy
        _log.warning("the watch ended, and begins anew", reason=f"{type(error).__name__}: {error}")
        await asyncio.sleep(PAUSE_SECONDS)


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    # The operator needs no search for CRDs and namespaces, and posts Events itself.
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.watching.chunk_size = PAGE
    settings.persistence.diffbase_storage = _NoDiff()
    settings.networking.connect_timeout = TIMEOUT_SECONDS
    settings.networking.error_backoffs = Backoffs()
    # By default, kopf kills the process ten minutes after the end of a watch, although a new watch may run by then.
    settings.process.ultimate_exiting_timeout = None
    return settings


async def _log_in(**_: object) -> kopf.ConnectionInfo:
    try:
        configuration = await log_in()
    except Unavailable as error:
        # For any other error, kopf would wait a minute before the next login.
        raise kopf.TemporaryError(error.message, delay=PAUSE_SECONDS) from error
    header = await configuration.get_api_key_with_prefix("BearerToken") or ""
    scheme, token = header.split(" ", 1) if header else (None, None)
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=scheme,
        token=token,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy,
    )


def _on_event(cache: VideoJobCache, queue: WorkQueue) -> Callable[..., Coroutine[Any, Any, None]]:
    async def seen(event: dict[str, Any], **_: object) -> None:
        videojob = read_videojob(event["object"])
        if videojob is None:
            return
        video_id = cache.deleted(videojob) if event["type"] == "DELETED" else cache.seen(videojob)
        if video_id is not None:
            queue.add(video_id)

    return seen
