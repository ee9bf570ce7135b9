"""Tests of charts/anb-video/files/smoke.py, which `helm test` runs, with the real API. The tests act as the worker."""

import importlib.util
import io
import os
import re
import socketserver
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from types import ModuleType

import av
import pytest

from anb_core.domain.model import Counters, Problem
from anb_core.domain.retry import RetryPolicy, Settlement, plan_failure, plan_rejection
from tests.support.api import Api
from tests.support.given import PROBLEM, claim, result
from tests.support.tether import free_port

SMOKE = Path(__file__).parents[3] / "charts" / "anb-video" / "files" / "smoke.py"


@pytest.fixture
def owner(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


Load = Callable[..., ModuleType]


@pytest.fixture
def load(api: Api, owner: str, monkeypatch: pytest.MonkeyPatch) -> Load:
    """A function that sets the environment variables of smoke.py and loads the file.

    Where smoke.py would sleep, it calls the argument `work` instead.
    """

    def load(work: Callable[[], object] = lambda: None, *, seconds: float = 60) -> ModuleType:
        monkeypatch.setenv("ANB_URL", api.url)
        monkeypatch.setenv("ANB_TOKEN", f"{api.token(owner)}\n")
        monkeypatch.setenv("ANB_TEST_SECONDS", str(seconds))
        spec = importlib.util.spec_from_file_location("smoke", SMOKE)
        assert spec is not None
        assert spec.loader is not None
        smoke = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(smoke)
        monkeypatch.setattr(smoke, "sleep", lambda _seconds: work())
        return smoke

    return load


def plan_last_failure(counters: Counters, problem: Problem) -> Settlement:
    return plan_failure(counters, problem, RetryPolicy(max_failures=1), jitter=0)


def test_a_video_that_is_processed_passes_and_is_deleted(
    api: Api, owner: str, load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    store = api.context.store

    def working() -> Iterator[None]:
        lease = claim(store, api.records(owner)[0].video.id)
        yield
        store.report_progress(lease, 0.5)
        yield
        store.publish(lease, result(lease))
        yield

    steps = working()
    load(lambda: next(steps)).main()

    uploaded, *states, outcome = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"Uploaded \d+ bytes as video \S+\.", uploaded)
    assert states == ["It is uploaded.", "It is processing.", "It is processed."]
    assert outcome == "The result has 9876 bytes and lasts 35.2 s."
    assert api.records(owner) == []


def test_the_clip_has_two_seconds_of_picture_and_tone(load: Load) -> None:
    with av.open(io.BytesIO(load().make_clip()), "r") as clip:
        assert clip.duration == pytest.approx(2 * av.time_base, rel=0.05)
        assert [stream.type for stream in clip.streams] == ["video", "audio"]


@pytest.mark.parametrize("plan", [plan_rejection, plan_last_failure], ids=["failed", "dead_lettered"])
def test_a_video_that_fails_ends_the_test_with_the_reason_and_is_deleted(
    plan: Callable[[Counters, Problem], Settlement], api: Api, owner: str, load: Load
) -> None:
    store = api.context.store

    def work() -> None:
        lease = claim(store, api.records(owner)[0].video.id)
        store.settle(lease, plan(lease.counters, PROBLEM))

    with pytest.raises(SystemExit, match=r"It was not processed: .*The renderer stopped with status 1"):
        load(work).main()
    assert api.records(owner) == []


def test_a_video_that_is_cancelled_ends_the_test(api: Api, owner: str, load: Load) -> None:
    def work() -> None:
        api.context.store.cancel(api.records(owner)[0].video.id)

    with pytest.raises(SystemExit, match=r"It was not processed: cancelled"):
        load(work).main()
    assert api.records(owner) == []


def test_a_video_that_takes_too_long_ends_the_test_with_its_state_and_is_deleted(
    api: Api, owner: str, load: Load
) -> None:
    with pytest.raises(SystemExit, match=r"It is still uploaded after 0 s: \{'video_id': "):
        load(seconds=0).main()
    assert api.records(owner) == []


def test_a_refused_upload_ends_the_test_with_the_reason_of_the_api(api: Api, owner: str, load: Load) -> None:
    smoke = load()
    with pytest.raises(SystemExit, match=r"^POST http://\S+/api/videos/upload: 422 .*not_a_video"):
        smoke.upload(b"no video")
    assert api.records(owner) == []


@contextmanager
def silent_server() -> Iterator[str]:
    """Run a server that closes each connection after the first bytes. Yields its URL."""

    class Silent(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)

    with socketserver.TCPServer(("127.0.0.1", 0), Silent) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def test_a_connection_that_ends_without_an_answer_ends_the_test_with_the_reason(load: Load) -> None:
    smoke = load()
    with silent_server() as url, pytest.raises(SystemExit, match=f"^GET {url}: Remote end closed connection"):
        smoke.call(url)


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SMOKE], env=os.environ | environment, capture_output=True, text=True, check=False
    )


def test_an_api_that_is_away_ends_the_test_with_the_address_that_refused() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = run(ANB_URL=url, ANB_TOKEN="secret", ANB_TEST_SECONDS="60")
    assert done.returncode == 1
    assert done.stderr.startswith(f"POST {url}/api/videos/upload: ")
    assert done.stderr.endswith("Connection refused\n")
    assert len(done.stderr.splitlines()) == 1
