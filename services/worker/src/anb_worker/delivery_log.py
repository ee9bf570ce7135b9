"""Writes one log line for each delivery, with its outcome."""

import logging
from collections.abc import Mapping

import structlog

from anb_core.usecases.report import Outcome, Report

_LEVELS: Mapping[Outcome, int] = {
    Outcome.DROPPED: logging.DEBUG,
    Outcome.IGNORED: logging.DEBUG,
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
    Outcome.ADOPTED: "adopted ({detail})",
    Outcome.IGNORED: "ignored ({detail})",
    Outcome.GIVEN_BACK: "given back{because}",
}

_log = structlog.get_logger(__name__)


def sentence(report: Report) -> str:
    """Return a report as one line of human-readable text."""
    reason = report.problem or report.unavailable
    return _SENTENCES[report.outcome].format(
        seconds=report.seconds,
        steps=", ".join(f"{name} {seconds:.1f}" for name, seconds in report.steps.items()),
        because=f": {getattr(reason, 'detail', None) or reason.message}" if reason else "",
        detail=report.detail,
    )


def log_report(report: Report) -> None:
    """Log the outcome of a delivery. If the job was interrupted too often, log an error, too."""
    log = _log.bind(message_id=report.message_id, video_id=report.video_id)
    if report.attempt_id is not None:
        log = log.bind(attempt_id=report.attempt_id, fence=report.fence)
    steps = {name: round(seconds, 2) for name, seconds in report.steps.items()}
    log.log(_LEVELS.get(report.outcome, logging.INFO), sentence(report), outcome=report.outcome.value, steps=steps)
    if report.alarming:
        interruptions = report.counters.interruptions if report.counters else 0
        log.error("this job is interrupted again and again: find out what stops its workers", times=interruptions)
