import math
import re
import sys
from contextlib import nullcontext
from dataclasses import replace

import pytest

from bench import backlog
from bench.backlog import CONNECTIONS, GROWTH, Row, find_growth
from tests.support.deployments import deployments, problem
from tests.support.postgres import Postgres

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="memory of a process is read from /proc"),
    pytest.mark.usefixtures("without_coverage_of_programs"),
]

MIB = 2**20
UPLOADED = Row("uploaded", 10, 10, 1.0, 5, 40, 60_000, [100 * MIB])
PROCESSED = Row("processed", 10, 10, 2.0, 20, 20, 40_000, [100 * MIB, *[80 * MIB] * 3])
ROWS = [
    UPLOADED,
    replace(UPLOADED, done=50, videos=40, writes=160),
    replace(UPLOADED, done=100, videos=50, writes=200),
    PROCESSED,
    replace(PROCESSED, done=100, videos=90, writes=180),
]


def test_a_short_run_prints_a_row_for_each_part_of_the_backlog(
    postgres: Postgres, ministack_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backlog, "running_postgres", lambda: nullcontext(postgres))
    monkeypatch.setattr(backlog, "running_ministack", lambda _: nullcontext(ministack_url))
    monkeypatch.setattr(sys, "argv", ["bench.backlog", "--videos", "20"])
    # In a run of 20 videos, the sweep's writes may all fall into the last row. The writes are judged in a test below.
    monkeypatch.setattr(backlog, "GROWTH", math.inf)

    assert backlog.main() == 0

    head, line, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("| videos | videos/s | writes/s | ")
    assert line.count("---") == head.count(" | ") + 1
    names = [re.match(r"\| (\w+) (\d+) \|", row) for row in rows]
    found = [(name[1], int(name[2])) for name in names if name]
    assert len(found) == len(rows)
    assert found[:4] == [("uploaded", 0), ("uploaded", 2), ("uploaded", 10), ("uploaded", 20)]
    assert {phase for phase, _ in found[4:]} == {"processed"}
    assert found[-1] == ("processed", 20)
    assert len(rows[-1].split("|")[-2].split(", ")) == 3


def test_measurements_that_do_not_grow_are_no_problem() -> None:
    assert [*find_growth(ROWS)] == []


@pytest.mark.parametrize(
    ("place", "change", "sentence"),
    [
        (0, {"connections": CONNECTIONS + 1}, "uploaded 10: 21 connections; allowed are 20."),
        (2, {"writes": int(200 * GROWTH) + 1}, "uploaded: 5.0 writes per video at the end, 4.0 at first."),
        (4, {"writes": int(180 * GROWTH) + 1}, "processed: 2.5 writes per video at the end, 2.0 at first."),
        (2, {"memory": [126 * MIB]}, "uploaded: the API has 126 MiB at the end, 100 MiB at first."),
        (
            4,
            {"memory": [100 * MIB, 80 * MIB, 101 * MIB, 80 * MIB]},
            "processed: a worker has 101 MiB at the end, 80 MiB at first.",
        ),
    ],
)
def test_a_measurement_that_grows_fails_the_run(place: int, change: dict[str, object], sentence: str) -> None:
    rows = [replace(row, **change) if number == place else row for number, row in enumerate(ROWS)]  # type: ignore[arg-type]

    assert [*find_growth(rows)] == [sentence]


def test_a_run_in_which_an_upload_is_refused_is_worthless() -> None:
    with deployments() as deploy:
        deployed = deploy(problem(503, "uploads_unavailable"))
        rows = backlog.uploading(deployed.url, ["token"] * 10, None, 10)  # type: ignore[arg-type]
        with pytest.raises(SystemExit, match="an upload was not accepted: 503"):
            next(rows)
