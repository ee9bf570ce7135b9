"""What people hear of a worker's deliveries: one line a job, and numbers."""

import logging
from collections.abc import Mapping

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram

from anb_core.domain.retry import INTERRUPTIONS_ALARM
from anb_core.usecases.report import Outcome, Report

STEP_BUCKETS = (0.05, 0.25, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)

_LEVELS: Mapping[Outcome, int] = {
    Outcome.DROPPED: logging.DEBUG,
    Outcome.FAILED: logging.WARNING,
    Outcome.RECORDED: logging.WARNING,
    Outcome.GIVEN_BACK: logging.WARNING,
    Outcome.DEAD_LETTERED: logging.ERROR,
}

_SENTENCES: Mapping[Outcome, str] = {
    Outcome.PROCESSED: "processed in {seconds:.1f} s ({steps})",
    Outcome.REJECTED: "the video is bad{because}",
    Outcome.FAILED: "the try failed, another one is due{because}",
    Outcome.DEAD_LETTERED: "dead-lettered, a person has to look{because}",
    Outcome.HANDED_ON: "handed on after {seconds:.1f} s{because}",
    Outcome.SUPERSEDED: "stopped, a person or another worker took the job over",
    Outcome.DROPPED: "nothing to do ({detail})",
    Outcome.RECORDED: "recorded as a dead letter ({detail})",
    Outcome.ADOPTED: "adopted from an older producer",
    Outcome.GIVEN_BACK: "given back{because}",
}

_log = structlog.get_logger(__name__)


def sentence(report: Report) -> str:
    """A report in one line for people."""
    reason = report.problem or report.unavailable
    return _SENTENCES[report.outcome].format(
        seconds=report.seconds,
        steps=", ".join(f"{name} {seconds:.1f}" for name, seconds in report.steps.items()),
        because=f": {getattr(reason, 'detail', None) or reason.message}" if reason else "",
        detail=report.detail,
    )


class Journal:
    """Hears of every delivery."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._deliveries = Counter(
            "anb_worker_deliveries", "Deliveries by what became of them.", ["outcome"], registry=registry
        )
        self._steps = Histogram(
            "anb_worker_step_seconds",
            "How long each step of a processed job took.",
            ["step"],
            buckets=STEP_BUCKETS,
            registry=registry,
        )
        self._alarms = Counter(
            "anb_worker_interruption_alarms",
            f"Interruptions of jobs that had been interrupted {INTERRUPTIONS_ALARM - 1} times before or more.",
            registry=registry,
        )
        for outcome in Outcome:
            self._deliveries.labels(outcome)

    def __call__(self, report: Report) -> None:
        """Count and say what became of a delivery."""
        self._deliveries.labels(report.outcome).inc()
        log = _log.bind(message_id=report.message_id, video_id=report.video_id)
        if report.attempt_id is not None:
            log = log.bind(attempt_id=report.attempt_id, fence=report.fence)
        if report.outcome is Outcome.PROCESSED:
            for step, seconds in report.steps.items():
                self._steps.labels(step).observe(seconds)
        steps = {name: round(seconds, 2) for name, seconds in report.steps.items()}
        log.log(_LEVELS.get(report.outcome, logging.INFO), sentence(report), outcome=report.outcome.value, steps=steps)
        interruptions = report.counters.interruptions if report.counters else 0
        if report.outcome is Outcome.HANDED_ON and interruptions >= INTERRUPTIONS_ALARM:
            self._alarms.inc()
            log.error("this job is interrupted again and again: see what takes its workers away", times=interruptions)
