"""The loop of a reconcile worker, which takes one video at a time from the queue and reconciles the video."""

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
"""Number of videos that are reconciled at once. Most of the time, a reconcile waits for the API server."""

LONGEST_PAUSE_SECONDS = 5.0
"""Maximum pause of a reconcile worker after an outage, in seconds, before the worker takes the next video."""

_log = structlog.get_logger(__name__)


class Reconcile(Protocol):
    """The type of a function that reconciles one video, such as `Reconciler.reconcile`."""

    async def __call__(self, video_id: str, *, news: bool) -> float | None: ...


async def reconcile_worker(queue: WorkQueue, reconcile: Reconcile, metrics: Metrics) -> None:
    """Reconcile videos from the queue, one at a time, until cancelled. Failed videos are retried with backoff."""
    unanswered = 0
    while True:
        if unanswered:
            # The API server is unavailable. Without a pause, the workers would read each queued video for nothing.
            await asyncio.sleep(min(plan_delay(unanswered, random.random()), LONGEST_PAUSE_SECONDS))  # noqa: S311
        work = await queue.take()
        try:
            again = await reconcile(work.video_id, news=work.event is not None)
        except asyncio.CancelledError:
            queue.failed(work.video_id)
            raise
        except Unreadable as error:
            # Only a newer version of the operator can read the video's row.
            # Count the video as done, so that the feed's cursor advances. The next resync tries the video again.
            unanswered = 0
            metrics.reconciles.labels("unreadable").inc()
            _log.warning("not mirrored", video_id=work.video_id, outcome="unreadable", reason=error.message)
            queue.done(work.video_id)
        except Exception as error:  # noqa: BLE001 - logged, and one video must not stop all others
            _failed(queue, work.video_id, error, metrics)
            is_outage = isinstance(error, Unavailable) and error.part == "kubernetes"
            unanswered = unanswered + 1 if is_outage else 0
        else:
            unanswered = 0
            metrics.reconciles.labels("done").inc()
            if work.event is not None:
                # The event has a time of the database's clock, which may be ahead of this machine's clock.
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
                # The feed reader tries the database twice a second, and resumes the queue when the database responds.
                queue.pause()
        case KubeRefused(message=reason):
            outcome = "refused"
        case _:
            outcome, reason = "error", f"{type(error).__name__}: {error}"
    metrics.reconciles.labels(outcome).inc()
    trace = error if outcome == "error" else None
    _log.warning("not mirrored", video_id=video_id, outcome=outcome, reason=reason, again_in=delay, exc_info=trace)
