"""Tests of the real worker with the real render engine, on real footage."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import imageio_ffmpeg
import pytest

from anb_core.domain.model import Counters, Ending
from anb_core.domain.status import Status
from tests.integration.worker.conftest import LEASE, MakeSite, Site
from tests.support import eventually
from tests.support.tether import free_port


@pytest.fixture(scope="module")
def tmpdir(tmp_path_factory: pytest.TempPathFactory, cards_dir: Path) -> Path:
    """A scratch disk that shares the test run's cache of intro and outro clips."""
    tmpdir = tmp_path_factory.mktemp("tmpdir")
    cards_dir.mkdir(exist_ok=True)
    root = tmpdir / f"anb-worker-{os.getuid()}"
    root.mkdir()
    (root / "cache").symlink_to(cards_dir, target_is_directory=True)
    return tmpdir


@pytest.fixture(scope="module")
def clip(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Real footage, repeated so that a test has time to act during the render."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    subprocess.run(
        [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-stream_loop", "2"),
            *("-i", footage / "bigbuckbunny.mp4", "-c", "copy", path),
        ],
        check=True,
    )
    return path.read_bytes()


@pytest.fixture
def real_site(make_site: MakeSite, postgres_url: str, ministack_url: str, tmpdir: Path) -> Iterator[Site]:
    with make_site(postgres_url, ministack_url, tmpdir=tmpdir) as site:
        yield site


def rendering(site: Site) -> bool:
    return any("ffmpeg" in line for line in site.processes())


@pytest.mark.chaos
def test_a_worker_that_is_killed_in_mid_render_takes_ffmpeg_with_it_and_another_one_finishes(
    real_site: Site, clip: bytes
) -> None:
    site, port = real_site, free_port()
    video = site.upload(clip)
    first = site.worker()
    eventually(lambda: site.job(video).lease_owner and rendering(site), within=180)
    first.kill()
    site.database.pass_time(LEASE)
    eventually(lambda: not site.processes())
    assert site.left_on_disk() != []

    second = site.worker(ANB_WORKER_LISTEN=f"127.0.0.1:{port}")
    job = site.until(video, Status.PROCESSED, within=180)
    assert job.counters == Counters(lost=1)
    assert [attempt.ending for attempt in site.parts.store.history(video).attempts] == [Ending.LOST, Ending.PROCESSED]
    assert job.result is not None
    assert (job.result.width, job.result.height) == (1280, 720)
    stored = site.parts.objects.head(job.result.key)
    assert stored is not None
    assert stored.size == job.result.size
    events = site.parts.store.events_after(0, video_id=video)
    assert any(0 < event.progress < 1 for event in events), "people saw it get on"

    eventually(lambda: "processed in" in second.log)
    assert site.left_on_disk() == []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        assert client.get("/healthz").text == "ok\n"
        assert 'anb_worker_deliveries_total{outcome="processed"} 1.0' in client.get("/metrics").text
    second.send(signal.SIGTERM)
    assert second.exit_code() == 0


def test_a_cancelled_render_kills_ffmpeg(real_site: Site, clip: bytes) -> None:
    site = real_site
    video = site.upload(clip)
    worker = site.worker()
    eventually(lambda: site.job(video).lease_owner and rendering(site), within=180)
    site.parts.store.cancel(video)

    eventually(lambda: not site.processes())
    eventually(lambda: "took the job over" in worker.log)
    assert site.left_on_disk() == []
    assert site.results(video) == []


def test_a_file_that_is_no_video_fails_once_with_its_reason(real_site: Site) -> None:
    site = real_site
    video = site.upload(b"\0\0\0\x18ftypmp42 and then nothing of any use")
    site.worker()
    job = site.until(video, Status.FAILED)
    assert job.error is not None
    assert job.error.message.endswith(".")
    assert job.attempts == 1
    assert job.counters == Counters()
