"""Tests that each setting of the API takes effect."""

from datetime import timedelta
from typing import Any

import pytest

from anb_api import __main__ as program
from anb_api.context import Context
from anb_api.server import Server
from anb_api.settings import ApiSettings, CommandSettings, MigrationSettings
from anb_core import bootstrap
from anb_core.adapters.system import new_id
from anb_core.domain.retry import RetryPolicy
from anb_core.domain.status import Status
from anb_core.ports.alerts import Alerts
from anb_core.ports.objects import Objects
from anb_core.ports.queue import Queue
from anb_core.ports.store import Claimed
from anb_core.settings.capabilities import AlertSettings, BucketSettings, DeadLetterQueueSettings
from anb_core.settings.loading import Misconfigured, load
from anb_core.testing.clock import ManualClock
from tests.support import eventually
from tests.unit.api.conftest import World, process

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANB_IDEMPOTENCY_SECONDS", "60")
    monkeypatch.setenv("ANB_DOWNLOAD_URL_SECONDS", "120")
    monkeypatch.setenv("ANB_SWEEP_SECONDS", "1")
    monkeypatch.setenv("ANB_MAX_LOST", "1")


@pytest.fixture
def clock(world: World) -> ManualClock:
    """A manual clock that the store uses as the database's clock."""
    clock = ManualClock(world.store.now())
    world.store.clock = clock.now
    return clock


def test_an_idempotency_key_is_remembered_for_as_long_as_is_set(world: World, clock: ManualClock) -> None:
    ana = {**world.caller("ana"), "Idempotency-Key": "holiday"}
    first = world.upload(ana)
    clock.advance(MINUTE - timedelta(seconds=1))
    assert world.upload(ana) == first
    clock.advance(timedelta(seconds=1))
    assert world.upload(ana) != first


def test_a_download_url_is_good_for_as_long_as_is_set(world: World) -> None:
    ana = world.caller("ana")
    video_id = world.upload(ana)
    process(world, video_id)
    answer = world.client.get(f"/api/videos/{video_id}/download", headers=ana)
    assert answer.headers["location"].endswith("&expires=120")


def test_a_job_whose_worker_is_lost_as_often_as_is_set_is_soon_a_dead_letter(world: World, clock: ManualClock) -> None:
    video_id = world.upload(world.caller("ana"))
    assert isinstance(
        world.store.claim(video_id, generation=1, attempt_id=new_id(), worker="w", lease=MINUTE, policy=RetryPolicy()),
        Claimed,
    )
    clock.advance(MINUTE)

    def dead() -> bool:
        record = world.store.get(video_id)
        return record is not None and record.job.status is Status.DEAD_LETTERED

    eventually(dead)


def test_migration_and_token_commands_need_the_database_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///anb.db")
    load(CommandSettings)
    assert load(MigrationSettings).bootstrap_token is None


@pytest.fixture
def _deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///anb.db")
    monkeypatch.setenv("S3_BUCKET", "anb-videos")
    monkeypatch.setenv("SQS_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/1/q")


@pytest.mark.usefixtures("_deployment")
@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("ANB_S3_PUBLIC_ENDPOINT", "videos:9000", "ANB_S3_PUBLIC_ENDPOINT is videos:9000: it must be an http"),
        ("ANB_S3_PUBLIC_ENDPOINT", "http://v/path", "ANB_S3_PUBLIC_ENDPOINT is http://v/path: it must be an http"),
        ("ANB_S3_PUBLIC_ENDPOINT", "https://ana:hunter2@v", "ANB_S3_PUBLIC_ENDPOINT can't be used: it must be an http"),
        ("ANB_API_LISTEN", "8000", "ANB_API_LISTEN is 8000: it must be HOST:PORT"),
        ("ANB_API_LISTEN", "ana:hunter2@v", "ANB_API_LISTEN can't be used: it must be HOST:PORT"),
        ("ANB_API_PREFIX", "video", "ANB_API_PREFIX is video: it must be a path, such as /video."),
    ],
)
def test_what_the_api_cannot_use_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured) as error:
        load(ApiSettings)
    [found] = error.value.problems
    assert found.startswith(problem)


@pytest.mark.usefixtures("_deployment")
def test_the_api_has_nothing_to_do_with_the_length_of_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANB_LEASE_SECONDS", "what it would refuse if it read this")
    load(ApiSettings)


@pytest.mark.usefixtures("_deployment")
def test_addresses_are_taken_with_or_without_a_slash_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANB_S3_PUBLIC_ENDPOINT", "https://videos.example.org/")
    monkeypatch.setenv("ANB_API_PREFIX", "/video/")
    settings = load(ApiSettings)
    assert (settings.s3_public_endpoint, settings.prefix) == ("https://videos.example.org", "/video")


@pytest.mark.usefixtures("_deployment")
def test_the_api_opens_its_bucket_by_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("ANB_S3_PUBLIC_ENDPOINT", "https://videos.example.org")
    monkeypatch.setenv("ANB_HEARTBEAT_SECONDS", "4")
    opened: list[timedelta] = []
    urls: list[str] = []

    def open_bucket(settings: BucketSettings, *, patience: timedelta, public_endpoint: str | None) -> Objects:
        opened.append(patience)
        return bootstrap.open_bucket(settings, patience=patience, public_endpoint=public_endpoint)

    def serve(server: Server) -> None:
        context: Context = server.app.state.context
        urls.append(context.objects.download_url("k", file_name="f", lifetime=MINUTE))

    monkeypatch.setattr(program, "open_bucket", open_bucket)
    monkeypatch.setattr(program, "serve", serve)
    monkeypatch.setattr(program, "configure_logging", lambda *_: None)
    assert program.main(["serve"]) == 0
    assert opened == [timedelta(seconds=4)]
    assert urls[0].startswith("https://videos.example.org/")


@pytest.mark.usefixtures("_deployment")
@pytest.mark.parametrize("handles", [True, False])
def test_the_api_handles_dead_letters_only_if_it_is_told_to(monkeypatch: pytest.MonkeyPatch, *, handles: bool) -> None:
    monkeypatch.setenv("ANB_HANDLE_DEAD_LETTERS", str(handles))
    monkeypatch.setenv("ANB_SNS_TOPIC_ARN", "arn:aws:sns:us-east-1:123456789012:anb-alerts")
    opened: list[str] = []

    def open_alerts(settings: AlertSettings, *, patience: timedelta) -> Alerts | None:
        opened.append(str(settings.sns_topic_arn))
        return bootstrap.open_alerts(settings, patience=patience)

    def open_queue(settings: DeadLetterQueueSettings, *, patience: timedelta) -> Queue | None:
        opened.append(settings.sqs_dlq_url)
        return bootstrap.open_dead_letter_queue(settings, patience=patience)

    monkeypatch.setattr(program, "open_alerts", open_alerts)
    monkeypatch.setattr(program, "open_dead_letter_queue", open_queue)
    monkeypatch.setattr(program, "serve", lambda _: None)
    monkeypatch.setattr(program, "configure_logging", lambda *_: None)
    assert program.main(["serve"]) == 0
    settings = load(ApiSettings)
    assert opened == ([settings.sqs_dlq_url, settings.sns_topic_arn] if handles else [])


@pytest.mark.usefixtures("_deployment")
def test_on_a_celery_broker_the_api_runs_without_a_dead_letter_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQS_QUEUE_URL", "")
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://redis:6379/0")
    monkeypatch.setenv("ANB_HANDLE_DEAD_LETTERS", "true")
    made: list[tuple[str, Queue | None]] = []

    def make_server(*parts: Any, dead_letter_queue: Queue | None, **_: object) -> None:
        made.append((parts[-1].name, dead_letter_queue))

    monkeypatch.setattr(program, "make_server", make_server)
    monkeypatch.setattr(program, "serve", lambda _: None)
    monkeypatch.setattr(program, "configure_logging", lambda *_: None)
    assert program.main(["serve"]) == 0
    assert made == [("redis://redis:6379/0#celery", None)]


@pytest.mark.parametrize(
    "token",
    [
        "hunter2",
        "hunter2-hunter2-\nhunter2",
        "hunter2-hunter2 hunter2",
        "hunter2-hunter2-\x01hunter2",
        "hunter2-hunter2-hünter2",
    ],
)
def test_a_wrong_bootstrap_token_is_explained_without_showing_it(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///anb.db")
    monkeypatch.setenv("ANB_BOOTSTRAP_TOKEN", token)
    with pytest.raises(Misconfigured) as error:
        load(MigrationSettings)
    [found] = error.value.problems
    assert found.startswith("ANB_BOOTSTRAP_TOKEN can't be used: ")
    assert "hunter2" not in found


def test_a_line_break_at_the_end_of_a_bootstrap_token_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:///anb.db")
    monkeypatch.setenv("ANB_BOOTSTRAP_TOKEN", "a-secret-of-the-operator\n")
    token = load(MigrationSettings).bootstrap_token
    assert token
    assert token.get_secret_value() == "a-secret-of-the-operator"
