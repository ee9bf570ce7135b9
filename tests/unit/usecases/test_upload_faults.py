"""Tests of upload sessions that are cancelled, or whose client, process, database or bucket fails."""

from datetime import timedelta
from typing import NoReturn

import pytest
from structlog.testing import capture_logs

from anb_core.domain.errors import Conflict, Unavailable
from anb_core.domain.model import Record
from anb_core.domain.status import Status
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.upload_session import RENEWAL_INTERVAL, UPLOAD_LIFETIME
from tests.unit.usecases.one_upload import ANA, VIDEO, FakeForm, World


@pytest.fixture
def world() -> World:
    return World()


def test_a_connection_that_breaks_leaves_neither_row_nor_object(world: World) -> None:
    def breaks(number: int) -> None:
        if number == 1:
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        world.upload(ANA, FakeForm([VIDEO, VIDEO], before=breaks))

    assert world.holds_nothing()


def test_a_bucket_that_goes_away_ends_the_upload_without_a_row(world: World) -> None:
    def goes_away(number: int) -> None:
        if number == 1:
            world.objects.fault = Unavailable("bucket", "The bucket is away.")

    with pytest.raises(Unavailable):
        world.upload(ANA, FakeForm([VIDEO, VIDEO], before=goes_away))

    assert world.holds_nothing()


def test_an_upload_that_is_cancelled_with_its_last_byte_never_becomes_an_object(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def becomes_whole(*_: object, **__: object) -> NoReturn:
        raise AssertionError

    monkeypatch.setattr(world.objects, "put", becomes_whole)

    def cancelled(number: int) -> None:
        if number == 1:
            (record,) = world.videos()
            world.store.cancel(record.video.id)

    with pytest.raises(Conflict) as refusal:
        world.upload(ANA, FakeForm([VIDEO, b"last"], before=cancelled))

    assert refusal.value.code == "upload_ended"


def test_an_upload_whose_process_died_is_ended_by_the_sweep(world: World) -> None:
    def dies(number: int) -> None:
        if number == 1:
            # Make the database unavailable, so that the session can't abandon the upload when the process dies.
            world.store.fault = Unavailable("database", "The database is away.")
            raise SystemExit

    with pytest.raises(SystemExit):
        world.upload(ANA, FakeForm([VIDEO, VIDEO], before=dies))
    world.store.fault = None
    assert len(world.videos()) == 1

    world.clock.advance(UPLOAD_LIFETIME)

    assert world.store.end_expired_uploads(limit=10) == 1
    assert world.holds_nothing()


def test_an_upload_that_is_cancelled_meanwhile_stops_at_its_next_renewal(world: World) -> None:
    def cancelled(number: int) -> None:
        if number == 1:
            (record,) = world.videos()
            world.store.cancel(record.video.id)
            world.clock.advance(RENEWAL_INTERVAL)

    form = FakeForm([VIDEO, b"more", b"never read"], before=cancelled)
    with pytest.raises(Conflict) as refusal:
        world.upload(ANA, form)

    assert refusal.value.code == "upload_ended"
    assert not form.finished
    assert not world.objects.contents
    assert [record.job.status for record in world.videos()] == [Status.CANCELLED]


def test_a_database_that_is_away_for_a_moment_does_not_end_a_running_upload(world: World) -> None:
    def flickers(number: int) -> None:
        world.store.fault = Unavailable("database", "The database is away.") if number == 1 else None
        world.clock.advance(RENEWAL_INTERVAL)

    record = world.upload(ANA, FakeForm([VIDEO, b"x", b"y"], before=flickers))

    assert record.job.status is Status.UPLOADED


class LosesAnswers(InMemoryStore):
    """A store whose first `times` calls of `complete_upload` raise an error.

    If `commits` is true, these calls commit the transaction before they raise the error.
    """

    def __init__(self, times: int, *, commits: bool = True) -> None:
        super().__init__()
        self.times = times
        self.commits = commits

    def complete_upload(self, *args: object, **kwargs: object) -> Record:
        lost = self.times > 0
        self.times -= 1
        if lost and not self.commits:
            raise Unavailable("database", "The connection was lost.")
        record = super().complete_upload(*args, **kwargs)  # type: ignore[arg-type]
        if lost:
            raise Unavailable("database", "The connection was lost.")
        return record


def test_when_the_answer_to_the_commit_is_lost_it_is_asked_for_again() -> None:
    world = World(LosesAnswers(2))

    record = world.upload(ANA, FakeForm())

    assert record.job.status is Status.UPLOADED
    assert world.runtime.slept == [0.2, 1.0]
    assert world.objects.contents


@pytest.mark.parametrize(
    ("commits", "status"), [(True, Status.UPLOADED), (False, Status.UPLOADING)], ids=["committed", "not committed"]
)
def test_when_no_answer_comes_at_all_nothing_is_deleted(status: Status, *, commits: bool) -> None:
    world = World(LosesAnswers(100, commits=commits))

    with pytest.raises(Unavailable):
        world.upload(ANA, FakeForm())

    (record,) = world.videos()
    assert record.job.status is status
    assert record.video.source_key in world.objects.contents


class EndsBeforeItIsComplete(InMemoryStore):
    """A store in which somebody deletes the video between the last renewal and the completion of the upload."""

    def complete_upload(self, video_id: str, *args: object, **kwargs: object) -> Record:
        self.delete(video_id, by="ada", grace=timedelta(hours=24))
        return super().complete_upload(video_id, *args, **kwargs)  # type: ignore[arg-type]


def test_an_object_that_became_whole_after_its_row_had_gone_is_removed() -> None:
    world = World(EndsBeforeItIsComplete())

    with pytest.raises(Conflict) as refusal:
        world.upload(ANA, FakeForm())

    assert refusal.value.code == "upload_ended"
    assert not world.objects.contents
    assert world.woken == 0


def test_an_object_that_cannot_be_removed_then_is_left_to_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_away(_: object) -> NoReturn:
        raise Unavailable("bucket", "The bucket is away.")

    world = World(EndsBeforeItIsComplete())
    monkeypatch.setattr(world.objects, "delete", is_away)

    with capture_logs() as logs, pytest.raises(Conflict) as refusal:
        world.upload(ANA, FakeForm())

    assert refusal.value.code == "upload_ended"
    assert [log["key"] for log in logs if log["event"] == "object left to the sweep"] == list(world.objects.contents)
