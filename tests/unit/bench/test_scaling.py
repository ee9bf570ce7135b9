"""Tests of bench.scaling with a simulated cluster."""

import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bench import scaling
from bench.scaling import Case, cases, measured
from tests.support.cluster import Namespace
from tests.support.scaling_picture import Sample
from tests.support.scaling_site import Attempt, Site

BURST = Case("step", "burst", 60)
BEGUN = 1000.0


class SimulatedSite(Site):
    """A site without a cluster. Each case has one worker, which is done with each video at once."""

    def __init__(self) -> None:
        super().__init__(Namespace("nowhere"))
        self.added: dict[str, tuple[str, ...]] = {}
        self.sent: list[Attempt] = []

    def add(self, case: str, *values: str, job_seconds: float, drain_seconds: float = 120) -> None:
        del job_seconds, drain_seconds
        self.added[case] = values

    def wait(self, cases: Sequence[str]) -> None:
        assert sorted(cases) == sorted(self.added)

    def send(self, case: str, videos: Sequence[int]) -> None:
        now = time.time()
        self.sent += [attempt(video, now, now, now, case=case) for video in videos]

    def attempts(self) -> list[Attempt]:
        sent, self.sent = self.sent, []
        return sent

    def look(self, cases: Sequence[str], at: float) -> dict[str, Sample]:
        return {case: Sample(at, 1, 0, 1) for case in cases}


def attempt(
    video: int,
    sent: float,
    began: float,
    ended: float,
    *,
    case: str = BURST.name,
    done: bool = True,
    stopped: bool = False,
) -> Attempt:
    return Attempt(case, video, sent, began, ended, done, stopped)


def samples(*numbers: tuple[float, int, int]) -> list[Sample]:
    """Samples of (at, workers, draining)."""
    return [Sample(at, 0, 0, workers, draining) for at, workers, draining in numbers]


def test_each_case_is_scaled_by_its_values_and_gets_a_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    site = SimulatedSite()

    @contextmanager
    def running(name: str) -> Iterator[Site]:
        assert name == "mine"
        yield site

    monkeypatch.setattr(scaling, "running_site", running)
    monkeypatch.setattr(scaling, "PERIOD", 0.001)
    monkeypatch.setattr(scaling, "STEADY_SECONDS", 0.02)
    monkeypatch.setattr(scaling, "JOBS", (0.005,))
    monkeypatch.setattr(sys, "argv", ["bench.scaling", "--namespace", "mine", "--folder", str(tmp_path / "new")])

    assert scaling.main() == 0

    head, _, *rows = capsys.readouterr().out.splitlines()
    assert len(rows) == len(site.added) == 8
    assert all(row.count("|") == head.count("|") for row in rows)
    assert site.added["step-burst-0.005"] == ()
    assert "worker.autoscaling.policy=backlog" in site.added["backlog-wide-steady-0.005"]
    *pictures, raw = sorted((tmp_path / "new").iterdir())
    assert [path.name for path in pictures] == ["scaling-burst.svg", "scaling-steady.svg"]
    attempts = json.loads(raw.read_text(encoding="utf-8"))["attempts"]
    assert [len(attempts[f"backlog-{load}-0.005"]) for load in ("burst", "steady")] == [40, 8]


def test_a_run_that_takes_too_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    site = SimulatedSite()
    monkeypatch.setattr(site, "attempts", list)
    monkeypatch.setattr(scaling, "PERIOD", 0.001)
    monkeypatch.setattr(scaling, "LONGEST", 0.05)
    run = scaling.Run(site, [BURST])

    run.to_the_end()

    assert run.attempts == {BURST.name: []}
    assert run.samples[BURST.name][-1].at < 0.05


def test_a_run_goes_on_while_a_removed_worker_still_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    site = SimulatedSite()
    draining = [1, 1, 0]
    monkeypatch.setattr(site, "look", lambda _, at: {BURST.name: Sample(at, 0, 0, 1, draining.pop(0))})
    monkeypatch.setattr(scaling, "PERIOD", 0.001)
    run = scaling.Run(site, [BURST])

    run.to_the_end()

    assert [one.draining for one in run.samples[BURST.name]] == [1, 1, 0]


def test_a_burst_arrives_at_once_and_a_steady_load_at_70_percent_of_three_workers() -> None:
    assert BURST.arrivals == [0.0] * 40
    steady = Case("step", "steady", 60).arrivals
    assert steady[1] == pytest.approx(60 / 2.1)
    assert 1800 - 60 / 2.1 <= steady[-1] < 1800


def test_the_limits_of_the_tuned_policies_follow_from_the_length_of_a_job() -> None:
    values = {(case.policy, case.job_seconds): case.values for case in cases()}
    assert [values["step tuned", job]["step.scaleUpAbove"] for job in (10, 60, 180)] == [60, 10, 3]
    assert [values["backlog", job]["backlog.jobSeconds"] for job in (10, 60, 180)] == [10, 60, 180]
    assert {name for case in cases() for name in [case.name]} == {case.name for case in cases()}


def test_a_row_counts_the_time_of_all_workers_until_one_is_left() -> None:
    row = measured(
        BURST,
        samples((0, 1, 0), (60, 2, 0), (120, 1, 1), (180, 1, 0), (600, 1, 0)),
        [attempt(0, BEGUN, BEGUN, BEGUN + 60), attempt(1, BEGUN, BEGUN + 60, BEGUN + 110)],
        BEGUN,
    )
    assert row.worker_minutes == 1 + 2 + 2
    assert (row.last_done, row.left) == (110, 38)
    assert (row.most, row.changes) == (2, 2)


def test_a_job_that_is_handed_on_waits_only_until_its_first_attempt() -> None:
    attempts = [
        attempt(0, BEGUN, BEGUN + 30, BEGUN + 40, done=False, stopped=True),
        attempt(0, BEGUN, BEGUN + 50, BEGUN + 60),
        attempt(1, BEGUN, BEGUN + 30, BEGUN + 40, stopped=True),
    ]
    row = measured(BURST, samples((0, 1, 0), (70, 1, 0)), attempts, BEGUN)
    assert row.wait == pytest.approx(30)
    assert (row.stopped, row.handed_on) == (1, 1)


def test_a_case_without_a_finished_video_has_a_row_too() -> None:
    row = measured(BURST, samples((0, 1, 0), (70, 1, 0)), [attempt(0, BEGUN, BEGUN, BEGUN + 9, done=False)], BEGUN)
    assert row.last_done == 0
    assert str(row) == "| burst | 60 s | step | 40 left | inf | 0 | 1 | 0 | 1 (1) |"


def test_a_picture_has_a_row_for_each_length_which_ends_with_the_last_case() -> None:
    ours = [Case(policy, "burst", job) for policy in ("step", "backlog") for job in (10, 60)]
    idle = [Sample(at, 0, 0, 1) for at in range(0, 3000, 60)]
    full = [Sample(0, 40, 0, 1), *idle[1:]]
    short = {case.name: full for case in ours} | {"step-burst-60": [*full[:10], Sample(600, 0, 0, 2), *idle[11:]]}
    svg = scaling.picture("burst", [*ours, Case("step", "steady", 60)], short)
    assert re.findall(r">(Jobs of .*?)<", svg) == [
        "Jobs of 10 s: 1 minutes, up to 40 messages and 1 workers",
        "Jobs of 60 s: 11 minutes, up to 40 messages and 2 workers",
    ]


def test_a_row_shows_minutes_and_the_jobs_lost() -> None:
    row = scaling.Row(BURST, 0, 90, 30, 4.6, 3, 4, 1, 2)
    assert str(row) == "| burst | 60 s | step | 1.5 | 0.5 | 5 | 3 | 4 | 3 (2) |"
    assert str(replace(row, left=7)) == "| burst | 60 s | step | 7 left | 0.5 | 5 | 3 | 4 | 3 (2) |"
