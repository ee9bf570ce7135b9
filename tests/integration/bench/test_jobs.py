import re
import sys
from contextlib import nullcontext

import pytest

from bench import jobs
from bench.jobs import RATIO, SOON, Cost, find_slow
from tests.support.postgres import Postgres

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the CPU time of a process is read from /proc"),
    pytest.mark.usefixtures("without_coverage_of_programs"),
]

BARE = Cost(wall=0.010, cpu=0.004)


def test_a_short_run_prints_what_a_job_costs_and_how_soon_it_is_claimed(
    postgres: Postgres, ministack_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "running_postgres", lambda: nullcontext(postgres))
    monkeypatch.setattr(jobs, "running_ministack", lambda _: nullcontext(ministack_url))
    # Patch `configure_logging`, because the program would replace the logging configuration of the tests.
    monkeypatch.setattr(jobs, "configure_logging", lambda *_: None)
    # How fast the machine is must not decide about this test.
    monkeypatch.setattr(jobs, "find_slow", lambda *_: ["It is slow."])
    monkeypatch.setattr(sys, "argv", ["bench.jobs", "--rounds", "1", "--jobs", "2", "--uploads", "2"])

    assert jobs.main() == 1

    head, line, bare, whole, ratio, empty, soon, message, problem = capsys.readouterr().out.splitlines()
    assert (head, line, empty, problem) == ("| | wall, ms | CPU, ms |", "|---|---|---|", "", "It is slow.")
    for row, name in ((bare, "bare loop"), (whole, "a job"), (ratio, "ratio")):
        assert re.fullmatch(rf"\| {name} \| \d+\.\d+ \| \d+\.\d+ \|", row)
    for line, name in ((soon, "From commit to claim"), (message, "A bare message")):
        assert re.fullmatch(rf"{name}: median \d+ ms, 99 of 100 within \d+ ms\.", line)


@pytest.mark.parametrize(
    ("wall", "cpu", "late", "sentences"),
    [
        (0.010 * RATIO, 0.004 * RATIO, SOON, []),
        (0.020, 0.004, 0.0, ["A job takes 2.00 times the time of the bare loop; allowed are 1.5."]),
        (0.010, 0.008, 0.0, ["A job takes 2.00 times the CPU time of the bare loop; allowed are 1.5."]),
        (0.010, 0.004, 0.051, ["1 of 100 claims comes later than 51 ms; allowed are 50 ms."]),
    ],
)
def test_a_run_fails_if_a_limit_is_exceeded(wall: float, cpu: float, late: float, sentences: list[str]) -> None:
    assert [*find_slow(BARE, Cost(wall, cpu), late)] == sentences
