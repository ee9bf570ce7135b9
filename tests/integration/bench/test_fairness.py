import re
import sys
from contextlib import nullcontext
from dataclasses import replace

import pytest

from bench import backlog, fairness
from bench.backlog import WORKERS
from bench.fairness import FEW, Row
from tests.support.postgres import Postgres

pytestmark = pytest.mark.usefixtures("without_coverage_of_programs")

LIMIT = 2 * FEW
"""With a lower limit, the owner with few uploads would soon have as many jobs in flight as the owner with many."""

ROW = Row("Redis", LIMIT, [0, 1, LIMIT + WORKERS], [1.0, 1.5, 2.0])


def test_many_uploads_delay_another_owners_videos_by_no_more_than_the_work_in_flight(
    postgres: Postgres,
    redis_url: str,
    ministack_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(fairness, "running_postgres", lambda: nullcontext(postgres))
    monkeypatch.setattr(fairness, "running_redis", lambda: nullcontext(redis_url))
    monkeypatch.setattr(fairness, "running_ministack", lambda _: nullcontext(ministack_url))
    for module in (backlog, fairness):
        monkeypatch.setattr(module, "WORKERS", 1)
    # Patch `configure_logging`, because the program would replace the logging configuration of the tests.
    monkeypatch.setattr(fairness, "configure_logging", lambda *_: None)
    monkeypatch.setattr(fairness, "CASES", [("Redis", True), ("emulator of SQS", True)])

    monkeypatch.setattr(sys, "argv", ["bench.fairness", "--videos", "14", "--limit", str(LIMIT)])

    assert fairness.main() == 0

    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("| queue | limit | jobs before video 1 | ")
    found = [re.fullmatch(r"\| ([\w ]+) \| (\w+) \| (\d+) \| .* s \|", row) for row in rows]
    assert [row and row.groups()[:2] for row in found] == [
        ("Redis", str(LIMIT)),
        ("emulator of SQS", str(LIMIT)),
    ]


@pytest.mark.parametrize(
    ("row", "fair"),
    [
        (ROW, True),
        (replace(ROW, ahead=[0, LIMIT + WORKERS + 1, 0]), False),
        (replace(ROW, limit=0, ahead=[1000, 1000, 1000]), True),
    ],
)
def test_a_run_fails_if_more_than_the_work_in_flight_came_first(row: Row, fair: bool) -> None:  # noqa: FBT001
    assert row.fair is fair


def test_a_row_names_the_limit_the_jobs_and_the_times() -> None:
    assert str(ROW) == "| Redis | 6 | 0 | 1 | 9 | 1.0 s | 1.5 s | 2.0 s |"
