from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from anb_core.domain.errors import Unavailable
from anb_core.domain.model import Counters, Problem
from anb_core.domain.retry import INTERRUPTIONS_ALARM
from anb_core.usecases.report import Outcome, Report
from anb_worker.delivery_log import log_report, sentence


@pytest.fixture
def logs() -> Iterator[list[EventDict]]:
    with capture_logs() as logs:
        yield logs


def test_a_job_is_one_line_with_the_time_of_each_step(logs: list[EventDict]) -> None:
    log_report(
        Report(
            Outcome.PROCESSED, "m", "v", attempt_id="a", fence=3, steps={"claim": 0.004, "download": 1.26, "main": 11.0}
        )
    )
    assert logs == [
        {
            "event": "processed in 12.3 s (claim 0.0, download 1.3, main 11.0)",
            "log_level": "info",
            "message_id": "m",
            "video_id": "v",
            "attempt_id": "a",
            "fence": 3,
            "outcome": "processed",
            "steps": {"claim": 0.0, "download": 1.26, "main": 11.0},
        }
    ]


@pytest.mark.parametrize(
    ("report", "line"),
    [
        (
            Report(Outcome.REJECTED, "m", problem=Problem("no_video_stream", "The file has no picture.")),
            "the video is bad: The file has no picture.",
        ),
        (Report(Outcome.HANDED_ON, "m", steps={"main": 4.0}), "handed on after 4.0 s"),
        (Report(Outcome.DROPPED, "m", detail="leased"), "nothing to do (leased)"),
        (
            Report(Outcome.GIVEN_BACK, "m", unavailable=Unavailable("database", "It is away.")),
            "given back: It is away.",
        ),
    ],
    ids=lambda value: value.outcome if isinstance(value, Report) else "",
)
def test_a_line_names_the_outcome_and_its_reason(report: Report, line: str) -> None:
    assert sentence(report) == line


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_a_line(logs: list[EventDict], outcome: Outcome) -> None:
    log_report(Report(outcome, "m", detail="why"))
    assert len(logs) == 1
    assert "{" not in logs[0]["event"]


@pytest.mark.parametrize(("interruptions", "alarms"), [(INTERRUPTIONS_ALARM - 1, 0), (INTERRUPTIONS_ALARM, 1)])
def test_twenty_interruptions_are_an_error_in_the_log(logs: list[EventDict], interruptions: int, alarms: int) -> None:
    log_report(Report(Outcome.HANDED_ON, "m", "v", counters=Counters(interruptions=interruptions)))
    assert sum(line["log_level"] == "error" for line in logs) == alarms
