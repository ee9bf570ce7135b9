"""The loop of a reconcile worker: it takes one video after the other from the queue and has it reconciled."""

import asyncio
import random
from datetime import UTC, datetime
from typing import Protocol

import structlog

from anb_core.domain.errors import Unavailable, Unreadable
from anb_operator.kube import KubeRefused
from anb_operator.metrics import Metrics
from anb_operator.workqueue import WorkQueue, plan_delay

RECONCILE_WORKERS = 16
"""Videos reconciled at once. The API server's time, not ours, is what they wait for, and they are read together."""

LONGEST_PAUSE_SECONDS = 5.0
"""A worker that Kubernetes did not answer pauses at most so long before it takes the next video."""

_log = structlog.get_logger(__name__)


class Reconcile(Protocol):
    """Reconciles one video: `Reconciler.reconcile`."""

    async def __call__(self, video_id: str, *, news: bool) -> float | None: ...


async def reconcile_worker(queue: WorkQueue, reconcile: Reconcile, metrics: Metrics) -> None:
    """Reconcile one video after the other until cancelled. What fails is tried again, ever more rarely."""
    unanswered = 0
    while True:
        if unanswered:
            # Otherwise ten thousand videos would be tried at once, and each would ask the database before.
            await asyncio.sleep(min(plan_delay(unanswered, random.random()), LONGEST_PAUSE_SECONDS))  # noqa: S311
        work = await queue.take()
        try:
            again = await reconcile(work.video_id, news=work.event is not None)
        except asyncio.CancelledError:
            queue.failed(work.video_id)
            raise
        except Unreadable as error:
            # Trying again is for a newer version; the feed must not wait for it, and the next resync looks again.
            unanswered = 0
            metrics.reconciles.labels("unreadable").inc()
            _log.warning("not mirrored", video_id=work.video_id, outcome="unreadable", reason=error.message)
            queue.done(work.video_id)
        except Exception as error:  # noqa: BLE001 - logged, and one video must not stop all others
            _failed(queue, work.video_id, error, metrics)
            away = isinstance(error, Unavailable) and error.part == "kubernetes"
            unanswered = unanswered + 1 if away else 0
        else:
            unanswered = 0
            metrics.reconciles.labels("done").inc()
            if work.event is not None:
                # The clock of the database may be a little ahead of ours.
                metrics.mirror_seconds.observe(max(0.0, (datetime.now(UTC) - work.event.at).total_seconds()))
            queue.done(work.video_id)
            if again is not None:
                queue.add_later(work.video_id, again)


def _failed(queue: WorkQueue, video_id: str, error: Exception, metrics: Metrics) -> None:
    delay = queue.failed(video_id)
    match error:
        case Unavailable(part=part, message=reason):
            outcome = f"{part}_away"
            if part == "database":
                # Till the feed is read again: it asks anyway, and for all.
                queue.pause()
        case KubeRefused(message=reason):
            outcome = "refused"
        case _:
            outcome, reason = "error", f"{type(error).__name__}: {error}"
    metrics.reconciles.labels(outcome).inc()
    trace = error if outcome == "error" else None
    _log.warning("not mirrored", video_id=video_id, outcome=outcome, reason=reason, again_in=delay, exc_info=trace)
