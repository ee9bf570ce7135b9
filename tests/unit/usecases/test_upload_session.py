"""Tests of upload sessions: the stored video, refused uploads, and the renewal of an upload."""

import hashlib
from datetime import timedelta

import pytest

from anb_core.domain.errors import Invalid, TooLarge
from anb_core.domain.model import Source
from anb_core.domain.object_notes import read_upload
from anb_core.domain.status import Status
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.upload_session import RENEWAL_INTERVAL, UPLOAD_LIFETIME
from tests.unit.usecases.one_upload import ANA, NO_INTRO, VIDEO, FakeForm, World


@pytest.fixture
def world() -> World:
    return World()


def test_an_upload_becomes_an_object_and_a_promise_to_process_it(world: World) -> None:
    record = world.upload(ANA, FakeForm([VIDEO[:7], VIDEO[7:1500], VIDEO[1500:]], title="  A title ", edit=NO_INTRO))

    assert world.objects.contents == {record.video.source_key: VIDEO}
    assert record.job.status is Status.UPLOADED
    assert record.video.source == Source(len(VIDEO), hashlib.sha256(VIDEO).hexdigest())
    assert (record.video.owner, record.video.title, record.video.edit) == ("ana", "A title", NO_INTRO)
    assert (record.video.file_name, record.video.owned) == ("clip.mp4", True)
    assert world.woken == 1
    assert len(world.store.hold_outbox(limit=10, hold=timedelta(seconds=1))) == 1


def test_the_object_has_a_note_of_what_the_row_says_in_case_the_row_is_lost(world: World) -> None:
    record = world.upload(ANA, FakeForm(title="A title", edit=NO_INTRO, process_after="2999"))

    noted = read_upload(world.objects.notes[record.video.source_key], record.video.id, record.job.id)
    assert noted is not None
    video = record.video
    assert (noted.owner, noted.title, noted.edit) == ("ana", "A title", NO_INTRO)
    assert (noted.source_key, noted.owned, noted.file_name) == (video.source_key, True, "clip.mp4")
    assert noted.process_after == video.process_after


def test_the_row_is_there_before_the_object_so_that_no_object_is_ever_without_one(world: World) -> None:
    seen: list[tuple[Status, bool]] = []

    def record_state(number: int) -> None:
        if number == 1:
            (record,) = world.videos()
            seen.append((record.job.status, record.video.source_key in world.objects.unfinished))

    world.upload(ANA, FakeForm([VIDEO, b"more"], before=record_state))

    assert seen == [(Status.UPLOADING, True)]


def test_what_a_form_says_after_its_file_counts_as_much(world: World) -> None:
    record = world.upload(ANA, FakeForm(title="Said late", edit=NO_INTRO, late=True))

    assert (record.video.title, record.video.edit) == ("Said late", NO_INTRO)


@pytest.mark.parametrize("late", [False, True], ids=["before the file", "after the file"])
def test_seconds_of_process_after_count_from_the_end_of_the_upload(world: World, *, late: bool) -> None:
    def slowly(_number: int) -> None:
        world.clock.advance(timedelta(seconds=30))

    record = world.upload(ANA, FakeForm([VIDEO, b"more"], process_after="3600", late=late, before=slowly))

    assert record.job.not_before == record.video.process_after == world.store.now() + timedelta(hours=1)


@pytest.mark.parametrize("late", [False, True], ids=["before the file", "after the file"])
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"title": ""}, "title_empty"),
        ({"title": "x" * 10_000}, "title_too_long"),
        ({"title": "a\nb"}, "title_unprintable"),
        ({"process_after": "tomorrow"}, "process_after_invalid"),
        ({"process_after": "604801"}, "process_after_invalid"),
    ],
)
def test_a_bad_field_leaves_neither_row_nor_object(
    world: World, fields: dict[str, str], code: str, *, late: bool
) -> None:
    form = FakeForm(**fields, late=late)  # type: ignore[arg-type]

    with pytest.raises(Invalid) as refusal:
        world.upload(ANA, form)

    assert refusal.value.code == code
    assert world.holds_nothing()
    # If the invalid field comes before the file, the session must end without reading the file.
    assert form.finished is late


def test_a_form_without_a_title_is_refused_and_leaves_nothing(world: World) -> None:
    with pytest.raises(Invalid, match="no field 'title'"):
        world.upload(ANA, FakeForm(title=None))

    assert world.holds_nothing()


@pytest.mark.parametrize(
    ("pieces", "code"),
    [([], "file_empty"), ([b"", b""], "file_empty"), ([b"I am a text, named clip.mp4\n" * 100], "not_a_video")],
)
def test_what_is_no_video_is_refused_before_anything_is_written(world: World, pieces: list[bytes], code: str) -> None:
    with pytest.raises(Invalid) as refusal:
        world.upload(ANA, FakeForm(pieces))

    assert refusal.value.code == code
    assert world.holds_nothing()
    assert world.store.last_event_id() == 0


def test_a_file_over_the_limit_is_refused_once_it_is_over(world: World) -> None:
    form = FakeForm([VIDEO, b"x" * 10_000, b"never read"])

    with pytest.raises(TooLarge, match="10000 bytes"):
        world.upload(ANA, form)

    assert world.holds_nothing()
    assert not form.finished


def test_a_file_of_exactly_the_limit_is_taken(world: World) -> None:
    record = world.upload(ANA, FakeForm([VIDEO, b"x" * (10_000 - len(VIDEO))]))

    assert record.video.source is not None
    assert record.video.source.size == 10_000


def test_an_upload_is_renewed_for_as_long_as_bytes_arrive(world: World) -> None:
    ended: list[int] = []

    def time_passes(_: int) -> None:
        world.clock.advance(RENEWAL_INTERVAL)
        ended.append(world.store.end_expired_uploads(limit=10))

    pieces = [VIDEO] + [b"x"] * (2 * int(UPLOAD_LIFETIME / RENEWAL_INTERVAL))
    record = world.upload(ANA, FakeForm(pieces, before=time_passes))

    assert record.job.status is Status.UPLOADED
    assert set(ended) == {0}


def test_an_upload_is_renewed_every_few_seconds_and_once_more_when_its_file_is_there() -> None:
    class Counts(InMemoryStore):
        renewals = 0

        def renew_upload(self, video_id: str, *, lifetime: timedelta) -> bool:
            self.renewals += 1
            return super().renew_upload(video_id, lifetime=lifetime)

    store = Counts()
    world = World(store)
    world.clock.advance(timedelta(hours=1))

    # One chunk arrives per second, the first at 1 s. The session renews the upload at 6 s, at 11 s and at the end.
    world.upload(ANA, FakeForm([VIDEO, *[b"x"] * 11], before=lambda _: world.clock.advance(timedelta(seconds=1))))

    assert store.renewals == 3
