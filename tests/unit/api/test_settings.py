"""Each part of the API goes by the setting that is meant for it."""

from datetime import timedelta

import pytest

from anb_api.settings import CommandSettings, MigrationSettings
from anb_core.adapters.system import new_id
from anb_core.domain.retry import RetryPolicy
from anb_core.domain.status import Status
from anb_core.ports.store import Claimed
from anb_core.settings.loading import load
from anb_core.testing.clock import ManualClock
from tests.support import eventually
from tests.unit.api.conftest import World
from tests.unit.api.test_app import process

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANB_IDEMPOTENCY_SECONDS", "60")
    monkeypatch.setenv("ANB_DOWNLOAD_URL_SECONDS", "120")
    monkeypatch.setenv("ANB_LEASE_SECONDS", "180")
    monkeypatch.setenv("ANB_SWEEP_SECONDS", "1")
    monkeypatch.setenv("ANB_MAX_LOST", "1")


@pytest.fixture
def clock(world: World) -> ManualClock:
    """The database's."""
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
