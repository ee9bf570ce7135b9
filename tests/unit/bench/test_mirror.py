"""Tests of bench.mirror with an in-memory store, a simulated operator, and a simulated kubectl."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from itertools import count, islice, repeat
from queue import SimpleQueue
from threading import Event, Thread

import httpx
import psutil
import pytest

from anb_core.domain.status import Status
from anb_core.testing.clock import ManualClock
from anb_core.testing.store import InMemoryStore
from bench import mirror
from bench.mirror import Measured
from bench.mirror_site import CLAIMED, DONE, Site, Watch
from tests.support import eventually
from tests.support.given import record_of


class Idle(psutil.Process):
    """An operator process that uses no CPU time."""

    def cpu_percent(self, interval: float | None = None) -> float:
        del interval
        return 0.0


class SimulatedSite(Site):
    """Simulates operators and kubectl. While an operator runs, the watch gets a line for each change of the store.

    `patched` lists the URL paths of the status patches.
    """

    def __init__(self) -> None:
        self.store = self.memory = InMemoryStore()
        self.patched: list[str] = []
        self.operators = 0
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._position = 0

    @contextmanager
    def watch(self) -> Iterator[Watch]:
        watch = Watch()
        reader = Thread(target=watch.read, args=(iter(self._lines.get, None),))
        reader.start()
        try:
            yield watch
        finally:
            self._lines.put(None)
            reader.join()

    @contextmanager
    def operator(self) -> Iterator[psutil.Process]:
        self.operators += 1
        stopped = Event()

        def run() -> None:
            while not stopped.wait(0.001):
                for event in self.memory.events_after(self._position):
                    self._position = event.id
                    self._lines.put(f"{event.video_id} {event.status.value} {int(event.progress * 100)}%\n")

        thread = Thread(target=run)
        thread.start()
        try:
            yield Idle(os.getpid())
        finally:
            stopped.set()
            thread.join()

    @contextmanager
    def client(self) -> Iterator[httpx.Client]:
        def answer(request: httpx.Request) -> httpx.Response:
            assert request.method == "PATCH"
            assert request.headers["Content-Type"] == "application/merge-patch+json"
            status = json.loads(request.content)["status"]
            self.patched.append(request.url.path)
            self._lines.put(f"{request.url.path.split('/')[-2]} {status['phase']} {status['progress']}\n")
            return httpx.Response(200)

        with httpx.Client(base_url="https://apiserver", transport=httpx.MockTransport(answer)) as client:
            yield client


@pytest.fixture
def site() -> SimulatedSite:
    return SimulatedSite()


def test_a_whole_run_prints_a_row_for_each_rate_alone_and_beside_the_finished_videos(
    site: SimulatedSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = count(1)
    monkeypatch.setattr(mirror, "opened", lambda: nullcontext(site))
    monkeypatch.setattr(mirror, "sleep", lambda _: None)
    monkeypatch.setattr(mirror, "RATES", (10, 40))
    monkeypatch.setattr(mirror, "processor_seconds", lambda _: {"kube-apiserver": float(next(numbers))})
    monkeypatch.setattr(sys, "argv", ["bench.mirror", "--seconds", "2", "--standing", "20"])

    mirror.main()

    output = capsys.readouterr().out
    names = re.findall(r"^(\S.*?)  +\d+\.\d\d +\d+\.\d\d +\d+\.\d\d +\d+\.\d +\d+\.\d\d *$", output, re.MULTILINE)
    assert names == ["10/s", "40/s", "40/s, bare patches", "10/s, beside 20", "40/s, beside 20"], output
    for sentence in (
        r"\d+ processors, a load of \d+\.\d before; seconds of lag, processors used",
        r"ratio to bare patches: lag \(p99\) \d+\.\d, kube-apiserver for a line \d+\.\d",
        r"20 processed videos mirrored in \d+ s",
        r"started beside: ready after \d+\.\d s, a change shown after \d+\.\d s, idle after \d+ s",
        r"memory of the operator beside them: \d+ MB",
    ):
        assert re.search(f"^{sentence}$", output, re.MULTILINE), output
    assert site.operators == 3
    assert len(site.patched) == 2 * 40
    assert len(set(site.patched)) == 40
    standing = [record_of(site.memory, video_id) for video_id in site.memory.rows if video_id.startswith("standing-")]
    assert [record.job.status for record in standing] == [Status.PROCESSED] * 20


def test_a_row_has_the_lags_and_the_shares_of_the_programs_that_ran() -> None:
    run = Measured([n / 100 for n in range(101)], lines=12.34, shares={"operator": 0.25, "everything": 1.5})

    assert (run.percentile(50), run.percentile(99)) == pytest.approx((0.5, 0.99))
    row = run.row("100/s")
    assert row.split() == ["100/s", "0.50", "0.99", "1.00", "12.3", "0.25", "1.50"]
    assert len(row) == len(mirror.HEADER)
    assert row.index("0.25") + 4 == mirror.HEADER.index("operator") + len("operator")


def test_a_simulated_worker_takes_its_videos_from_submission_to_result(site: SimulatedSite) -> None:
    steps = mirror.lives(site.memory, "worker-1", step=40, begin=20)
    seen = []
    for video_id, stage in islice(steps, 9):
        job = record_of(site.memory, video_id).job
        seen.append((stage, job.status.value, int(job.progress * 100)))

    first = [(0, "uploaded", 0), (CLAIMED, "processing", 0), (CLAIMED + 20, "processing", 20)]
    assert seen == [
        *first,
        (CLAIMED + 60, "processing", 60),
        (DONE, "processed", 100),
        (0, "uploaded", 0),
        (CLAIMED, "processing", 0),
        (CLAIMED + 40, "processing", 40),
        (CLAIMED + 80, "processing", 80),
    ]


def test_a_video_that_a_worker_may_not_claim_ends_the_measurement(site: SimulatedSite) -> None:
    steps = mirror.lives(site.memory, "worker-1")
    video_id, _ = next(steps)
    site.memory.cancel(video_id)

    with pytest.raises(TypeError, match=f"{video_id} can't be claimed: "):
        next(steps)


def test_changes_are_made_in_turn_at_the_given_rate() -> None:
    players = [zip(repeat(f"video-{n}"), count()) for n in range(10)]
    begin = time.monotonic()

    changes = mirror.drive(players, 30, rate=150)

    assert time.monotonic() - begin >= 29 / 150
    assert sorted((change.video_id, change.place) for change in changes) == [
        (f"video-{n}", place) for n in range(10) for place in range(3)
    ]
    asked = sorted(change.asked - begin for change in changes)
    assert all(at >= number / 150 for number, at in enumerate(asked))


@pytest.mark.parametrize(("pause", "slow"), [(0.5, 0), (0.55, 1)], ids=["in time", "late"])
def test_changes_that_take_longer_than_planned_are_reported(
    pause: float, slow: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock, watch = ManualClock(), Watch()
    monkeypatch.setattr(mirror, "monotonic", clock.monotonic)
    monkeypatch.setattr(mirror, "sleep", lambda _: None)

    def player() -> mirror.Steps:
        for percent in count():
            clock.advance(timedelta(seconds=pause))
            watch.read([f"video processing {percent}%"])
            yield "video", CLAIMED + percent

    measured = mirror.measure("2/s", watch, [player()], rate=2, seconds=1)

    assert measured.lines == pytest.approx(1 / pause)
    assert capsys.readouterr().out.count("the machine is too slow: that took 1.1 s instead of 1 s") == slow


def test_a_patch_adds_a_percent_and_a_refused_patch_ends_the_measurement() -> None:
    answers = iter([200, 200, 403])
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content)["status"]["progress"])
        return httpx.Response(next(answers))

    with httpx.Client(base_url="https://apiserver", transport=httpx.MockTransport(answer)) as client:
        steps = mirror.bare_patches(client, "video-1")
        assert list(islice(steps, 2)) == [("video-1", CLAIMED), ("video-1", CLAIMED + 1)]
        assert sent == ["0%", "1%"]
        with pytest.raises(httpx.HTTPStatusError, match="403"):
            next(steps)


def test_the_processor_time_of_each_program_is_counted() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"]) as operator:
        try:
            process = psutil.Process(operator.pid)
            before = mirror.processor_seconds(process)
            eventually(lambda: process.cpu_times().user > before["operator"] + 0.1)
            after = mirror.processor_seconds(process)
        finally:
            operator.kill()
    assert set(before) == set(after) == {"operator", "bench", "everything"}
    assert after["operator"] - before["operator"] >= 0.1
    assert after["everything"] - before["everything"] >= 0.1
    assert set(mirror.processor_seconds(None)) == {"bench", "everything"}
