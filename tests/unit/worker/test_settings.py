"""Tests that each setting takes effect in a worker. The tests run a complete worker with fakes."""

import json
import socket
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from anb_core.adapters.system import SystemRuntime
from anb_core.bootstrap import open_bucket
from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Transient
from anb_core.domain.input_checks import InputLimits
from anb_core.domain.model import Job, NewVideo, Source
from anb_core.domain.status import Status
from anb_core.ports.queue import Delivery
from anb_core.ports.renderer import Renderer
from anb_core.ports.runtime import Runtime
from anb_core.settings.loading import Misconfigured, load
from anb_core.testing.clock import ManualClock
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.runtime import ManualRuntime
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.relay import Relay
from anb_core.usecases.shutdown import Shutdown
from anb_worker import __main__ as program
from anb_worker import app
from anb_worker.health import Pulse
from anb_worker.render.engine import RenderEngine
from anb_worker.scratch import ScratchDisk
from anb_worker.settings import WorkerSettings
from tests.support import eventually
from tests.support.renderer import SOURCE, FakeRenderer
from tests.support.s3_notifications import notification, record

VIDEO = "11111111-1111-4111-8111-111111111111"
KEY = "uploads/clip.mp4"


class WatchedQueue(InMemoryQueue):
    """A queue whose field `kept` has the visibility timeout of the last `extend` call."""

    kept = timedelta(0)

    def extend(self, delivery: Delivery, *, visibility: timedelta) -> None:
        super().extend(delivery, visibility=visibility)
        self.kept = visibility


class World:
    """The fakes that a worker uses. The fake bucket contains one object."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.store = InMemoryStore(self.clock.now)
        self.objects = InMemoryObjects()
        self.queue = WatchedQueue(now=self.clock.now)
        self.old_queue: InMemoryQueue | None = None
        self.objects.put(KEY, SOURCE)

    def submit(self) -> None:
        new = NewVideo(VIDEO, "t1", "ada", "Holiday", EditSpec(), KEY, owned=False, file_name="clip.mp4")
        self.store.submit_existing(new, Source(len(SOURCE)))
        Relay(self.store, self.queue, bucket=self.objects.bucket, runtime=ManualRuntime(self.clock)).send_due()

    def work(self, renderer: Renderer, **environment: str) -> None:
        """Run a worker with the given settings until its queues are empty."""
        settings = WorkerSettings(
            DATABASE_URL="sqlite:///unused.db",
            S3_BUCKET=self.objects.bucket,
            SQS_QUEUE_URL=self.queue.name,
            SQS_REGION="us-east-1",
            SQS_WAIT_TIME_SECONDS="0",
            **environment,  # type: ignore[arg-type]
        )
        runtime = SystemRuntime()
        shutdown = Shutdown(timedelta(0), runtime)

        def end(step: str) -> None:
            if step == "receive" and all(queue.depth().empty for queue in (self.queue, self.old_queue) if queue):
                shutdown.request("end")

        with ScratchDisk(self.folder) as scratch:
            app.run(
                settings,
                store=self.store,
                objects=self.objects,
                queue=self.queue,
                old_queue=self.old_queue,
                renderer=renderer,
                scratch=scratch,
                shutdown=shutdown,
                runtime=runtime,
                on_step=end,
            )

    def job(self) -> Job:
        record = self.store.get(VIDEO)
        assert record is not None
        return record.job


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_lease_and_its_message_are_kept_for_different_times(world: World) -> None:
    def lease() -> float:
        expires = world.job().lease_expires_at
        assert expires is not None
        return (expires - world.clock.now()).total_seconds()

    def during() -> None:
        assert lease() == 1000
        world.clock.advance(timedelta(seconds=10))
        eventually(lambda: world.queue.kept == timedelta(seconds=2000))
        assert lease() == 1000

    world.submit()
    world.work(
        FakeRenderer(during),
        ANB_HEARTBEAT_SECONDS="1",
        ANB_LEASE_SECONDS="1000",
        SQS_VISIBILITY_TIMEOUT="2000",
        ANB_WORKER_NAME="worker-7",
    )
    assert world.job().status is Status.PROCESSED
    [attempt] = world.store.history(VIDEO).attempts
    assert (attempt.worker, attempt.version) == ("worker-7", version("anb-worker"))


def test_a_worker_lives_for_two_leases_without_a_sign_and_gives_one_while_busy_and_after(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, pulses = ManualClock(), list[Pulse]()

    def pulse(patience: timedelta, _: Runtime) -> Pulse:
        pulses.append(Pulse(patience, ManualRuntime(clock)))
        return pulses[0]

    def during() -> None:
        clock.advance(timedelta(seconds=2000))
        assert pulses[0].alive()
        clock.advance(timedelta(seconds=2000))
        eventually(pulses[0].alive)
        clock.advance(timedelta(seconds=3000))

    monkeypatch.setattr(app, "Pulse", pulse)
    world.submit()
    world.work(FakeRenderer(during), ANB_LEASE_SECONDS="1001", SQS_VISIBILITY_TIMEOUT="2000")
    assert world.job().status is Status.PROCESSED
    assert pulses[0].alive()


def test_a_job_on_the_old_queue_is_tried_again_by_the_current_queue(world: World) -> None:
    failures = [Transient("child_failed", "ffmpeg was killed.")]

    def fail_once() -> None:
        if failures:
            raise failures.pop()

    old = world.queue
    world.submit()
    world.queue, world.old_queue = WatchedQueue("https://queue.invalid/000000000000/current", now=world.clock.now), old
    with capture_logs() as logs:
        world.work(FakeRenderer(fail_once), ANB_BACKOFF_SECONDS="0")
    assert [line["queue"] for line in logs if line["event"].startswith("the old queue ")]
    assert old.depth().empty
    Relay(world.store, world.queue, bucket=world.objects.bucket, runtime=ManualRuntime(world.clock)).send_due()
    world.work(FakeRenderer(fail_once))
    assert (world.job().status, world.job().enqueued_to) == (Status.PROCESSED, world.queue.name)


def test_how_often_an_attempt_may_fail_is_a_setting(world: World) -> None:
    def fail() -> None:
        raise Transient("child_failed", "ffmpeg was killed.")

    world.submit()
    world.work(FakeRenderer(fail), ANB_MAX_FAILURES="1")
    assert world.job().status is Status.DEAD_LETTERED


@pytest.mark.parametrize(("most", "owner"), [(len(SOURCE), "legacy"), (len(SOURCE) - 1, None)])
def test_an_object_in_an_older_producers_message_is_adopted_unless_it_is_too_large(
    world: World, most: int, owner: str | None
) -> None:
    world.queue.put(json.dumps({"video_id": VIDEO, "file_path": KEY}))
    world.work(FakeRenderer(), ANB_ADOPT_OWNER="legacy", ANB_MAX_UPLOAD_BYTES=str(most))
    record = world.store.get(VIDEO)
    assert (record and record.video.owner) == owner


@pytest.mark.parametrize(("prefixes", "owner"), [("drone/,camera/", "cameras"), ("", None)])
def test_an_object_that_s3_reports_is_adopted_only_under_the_prefixes_of_the_settings(
    world: World, prefixes: str, owner: str | None
) -> None:
    world.objects.put("camera/door.mp4", SOURCE)
    world.queue.put(notification(record("camera/door.mp4")))
    world.work(FakeRenderer(), ANB_ADOPT_OWNER="cameras", ANB_SOURCE_PREFIXES=prefixes)
    adopted = world.store.listing(owner=None)
    assert [one.video.owner for one in adopted] == ([owner] if owner else [])


def test_a_process_drains_asks_its_bucket_fills_its_disk_and_takes_videos_as_far_as_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {
        "DATABASE_URL": "sqlite:///unused.db",
        "S3_BUCKET": "anb-videos",
        "SQS_QUEUE_URL": "http://127.0.0.1:9/000000000000/anb",
        "ANB_DRAIN_SECONDS": "7",
        "ANB_HEARTBEAT_SECONDS": "4",
        "ANB_SCRATCH_BYTES": str(2**29),
        "ANB_MAX_DURATION_SECONDS": "11",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made: dict[object, tuple[Any, ...]] = {}

    def noted(kind: Callable[..., object]) -> Callable[..., object]:
        def make(*given: object, **options: object) -> object:
            made[kind] = (*given, options)
            return kind(*given, **options)

        return make

    for kind in (Shutdown, ScratchDisk, RenderEngine, open_bucket):
        monkeypatch.setattr(program, kind.__name__, noted(kind))
    monkeypatch.setattr(program, "configure_logging", lambda *_: None)
    monkeypatch.setattr(program, "default_root", lambda: tmp_path)
    monkeypatch.setattr(program, "stop_on_signals", lambda _: None)
    monkeypatch.setattr(app, "run", lambda *_, **__: None)
    program.main()
    assert made[Shutdown][0] == timedelta(seconds=7)
    assert made[open_bucket][-1] == {"patience": timedelta(seconds=4)}
    assert made[ScratchDisk][-1] == {"limit": 2**29}
    assert made[RenderEngine][-1] == {"input_limits": InputLimits(max_seconds=11)}


@pytest.fixture
def _deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///anb.db")
    monkeypatch.setenv("S3_BUCKET", "anb-videos")
    monkeypatch.setenv("SQS_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/1/q")


@pytest.mark.usefixtures("_deployment")
def test_optional_settings_of_a_worker_have_defaults() -> None:
    settings = load(WorkerSettings)
    assert (settings.wait_time, settings.drain) == (timedelta(seconds=20), timedelta(seconds=120))
    assert settings.worker_name == socket.gethostname()
    assert settings.listen is None


@pytest.mark.usefixtures("_deployment")
@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("SQS_WAIT_TIME_SECONDS", "21", "SQS_WAIT_TIME_SECONDS is 21: it must be a whole number from 0 to 20."),
        ("ANB_WORKER_LISTEN", "0.0.0.0:65536", "ANB_WORKER_LISTEN is 0.0.0.0:65536: it must be HOST:PORT"),
        ("ANB_LEASE_SECONDS", "10x", "ANB_LEASE_SECONDS is 10x: it must be a whole number from 3 to 3600."),
        ("ANB_LEASE_SECONDS", "300", "ANB_LEASE_SECONDS is 300: it must be less than SQS_VISIBILITY_TIMEOUT (300)."),
        (
            "ANB_LEASE_SECONDS",
            "59",
            "ANB_LEASE_SECONDS is 59: it must be at least three times ANB_HEARTBEAT_SECONDS (20)",
        ),
        (
            "ANB_HEARTBEAT_SECONDS",
            "21",
            "ANB_LEASE_SECONDS is 60: it must be at least three times ANB_HEARTBEAT_SECONDS (21), so that two renewals",
        ),
    ],
)
def test_an_unusable_setting_of_a_worker_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured) as error:
        load(WorkerSettings)
    [found] = error.value.problems
    assert found.startswith(problem)
