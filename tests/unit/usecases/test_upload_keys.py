"""Tests of upload sessions with an Idempotency-Key."""

from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest

from anb_core.domain.errors import Conflict, Held, Invalid, TooLarge
from anb_core.domain.status import Status
from anb_core.usecases.upload_session import UploadStore
from anb_core.usecases.visibility import Caller
from tests.unit.usecases.one_upload import ANA, NO_INTRO, VIDEO, FakeForm, World


@pytest.fixture
def world() -> World:
    return World()


def test_the_same_upload_with_its_key_again_gets_the_same_answer_and_is_not_stored_again(world: World) -> None:
    first = world.upload(ANA, FakeForm(), idempotency_key="k")
    again = world.upload(ANA, FakeForm([VIDEO[:50], VIDEO[50:]], late=True), idempotency_key="k")

    assert (again.video.id, again.job.id) == (first.video.id, first.job.id)
    assert len(world.videos()) == len(world.objects.contents) == 1


def test_the_same_upload_again_changes_nothing_in_the_database(world: World) -> None:
    world.upload(ANA, FakeForm(), idempotency_key="k")
    asked: list[str] = []

    class Reads:
        def __getattr__(self, name: str) -> object:
            asked.append(name)
            return getattr(world.store, name)

    again = replace(world.sessions, store=cast("UploadStore", Reads()))
    with again.begin(ANA, file_name="clip.mp4", idempotency_key="k") as session:
        session.append(VIDEO)
        session.complete("A title", None)

    assert asked == ["begin_upload"]


@pytest.mark.parametrize("given", ["60", "2026-01-01T00:00:30Z"], ids=["seconds", "a time"])
def test_a_scheduled_upload_with_its_key_again_gets_the_same_answer_also_after_its_time(
    world: World, given: str
) -> None:
    first = world.upload(ANA, FakeForm(process_after=given), idempotency_key="k")
    world.clock.advance(timedelta(hours=1))

    again = world.upload(ANA, FakeForm(process_after=given, late=True), idempotency_key="k")

    assert again == first


@pytest.mark.parametrize(
    "other",
    [
        FakeForm([VIDEO + b"!"]),
        FakeForm(title="Another"),
        FakeForm(edit=NO_INTRO),
        FakeForm(process_after="3600"),
    ],
    ids=["another file", "another title", "another edit", "another time"],
)
def test_another_upload_with_a_used_key_is_refused(world: World, other: FakeForm) -> None:
    first = world.upload(ANA, FakeForm(), idempotency_key="k")

    with pytest.raises(Invalid) as refusal:
        world.upload(ANA, other, idempotency_key="k")

    assert refusal.value.code == "idempotency_key_reused"
    assert [record.video for record in world.videos()] == [first.video]
    assert len(world.objects.contents) == 1


def test_a_key_whose_upload_is_under_way_is_refused_and_the_upload_goes_on(world: World) -> None:
    refusals: list[str] = []

    def second(number: int) -> None:
        if number == 1:
            with pytest.raises(Conflict) as refusal:
                world.upload(ANA, FakeForm(), idempotency_key="k")
            refusals.append(refusal.value.code)

    record = world.upload(ANA, FakeForm([VIDEO, b"x"], before=second), idempotency_key="k")

    assert refusals == ["upload_in_progress"]
    assert record.job.status is Status.UPLOADED


def test_whoever_finds_a_key_held_is_told_for_how_long_and_gets_it_once_the_first_upload_is_silent(
    world: World,
) -> None:
    waits: list[timedelta] = []

    def second(number: int) -> None:
        if number == 1:
            world.clock.advance(timedelta(seconds=13))
            with pytest.raises(Held, match="ask again in 7 s") as refusal:
                world.upload(ANA, FakeForm(), idempotency_key="k")
            waits.append(refusal.value.wait)
            world.clock.advance(refusal.value.wait)
            world.upload(ANA, FakeForm(), idempotency_key="k")

    with pytest.raises(Conflict) as ended:
        world.upload(ANA, FakeForm([VIDEO, b"x"], before=second), idempotency_key="k")

    assert waits == [timedelta(seconds=7)]
    assert ended.value.code == "upload_ended"
    (record,) = world.videos()
    assert record.job.status is Status.UPLOADED
    assert world.objects.contents == {record.video.source_key: VIDEO}


def test_an_upload_that_goes_on_keeps_its_key(world: World) -> None:
    refusals: list[str] = []

    def later(number: int) -> None:
        world.clock.advance(timedelta(seconds=8))
        if number == 6:
            with pytest.raises(Held) as refusal:
                world.upload(ANA, FakeForm(), idempotency_key="k")
            refusals.append(refusal.value.code)

    record = world.upload(ANA, FakeForm([VIDEO, *[b"x"] * 8], before=later), idempotency_key="k")

    assert refusals == ["upload_in_progress"]
    assert record.job.status is Status.UPLOADED


def test_a_key_belongs_to_its_owner_alone(world: World) -> None:
    first = world.upload(ANA, FakeForm(), idempotency_key="k")
    other = world.upload(Caller("bob"), FakeForm(title="Another"), idempotency_key="k")

    assert first.video.id != other.video.id


def test_the_key_of_a_broken_upload_can_be_used_again(world: World) -> None:
    def breaks(number: int) -> None:
        if number == 1:
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        world.upload(ANA, FakeForm([VIDEO, b"x"], before=breaks), idempotency_key="k")

    assert world.upload(ANA, FakeForm(), idempotency_key="k").job.status is Status.UPLOADED


def test_replaying_an_upload_keeps_to_the_limit_too(world: World) -> None:
    world.upload(ANA, FakeForm(), idempotency_key="k")
    form = FakeForm([VIDEO, b"x" * 10_000, b"never read"])

    with pytest.raises(TooLarge):
        world.upload(ANA, form, idempotency_key="k")

    assert not form.finished
