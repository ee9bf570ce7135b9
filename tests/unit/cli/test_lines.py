import json

import pytest

from anb_cli.stack.lines import Line, readable

JOB = {
    "level": "info",
    "logger": "anb_worker.journal",
    "message": "processed in 4.2 s (download 0.1, main 3.9)",
    "message_id": "m",
    "outcome": "processed",
    "steps": {"download": 0.1},
    "timestamp": "2026-01-01T00:00:00Z",
    "video_id": "0f9e8d7c-6b5a-4000-8000-000000000000",
}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (JOB, Line("0f9e8d7c processed in 4.2 s (download 0.1, main 3.9)", "info")),
        (
            {"level": "warning", "message": "queue is away", "again_in": 2.5, "logger": "x"},
            Line("queue is away again_in=2.5", "warning"),
        ),
        (
            {"level": "error", "message": "sweep failed, goes on", "exception": "Traceback ..."},
            Line("sweep failed, goes on", "error"),
        ),
        (
            {"level": "warning", "message": "recorded as a dead letter", "video_id": None, "bytes": 0},
            Line("recorded as a dead letter bytes=0", "warning"),
        ),
        ({"level": "info", "message": "swept", "lost": 1}, None),
        ({"level": "debug", "message": "stale receipt handle"}, None),
    ],
)
def test_a_person_sees_jobs_and_trouble(said: dict[str, object], shown: Line | None) -> None:
    assert readable(json.dumps(said)) == shown


def test_a_line_that_is_no_log_line_is_shown_unchanged() -> None:
    assert readable("configuration: S3_BUCKET is missing") == Line("configuration: S3_BUCKET is missing", "error")
    assert readable("[1]") == Line("[1]", "error")


def test_empty_lines_are_not_shown() -> None:
    assert readable("  ") is None
