import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import NoReturn, cast

import pytest
from structlog.testing import capture_logs

from anb_core.adapters.system import new_id
from anb_core.domain.edit import EditSpec, Switch
from anb_core.domain.errors import Conflict, Held, Invalid, TooLarge, Unavailable
from anb_core.domain.model import Record, Source
from anb_core.domain.status import Status
from anb_core.ports.store import Uploads
from anb_core.testing.clock import ManualClock
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.runtime import ManualRuntime
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.upload_session import RENEWAL_INTERVAL, UPLOAD_LIFETIME, UploadSessions
from anb_core.usecases.visibility import Caller

ANA = Caller("ana")
VIDEO = b"\0\0\0\x18ftypisom" + b"\0" * 2000
NO_INTRO = EditSpec(intro=Switch(enabled=False))


class FakeForm:
    """A form whose file arrives in the given pieces. The form calls `before(number)` before each piece."""

    def __init__(
        self,
        pieces: Sequence[bytes] = (VIDEO,),
        *,
        title: str | None = "A title",
        edit: EditSpec | None = None,
        late: bool = False,
        before: Callable[[int], None] = lambda _: None,
        name: str = "clip.mp4",
    ) -> None:
        self._pieces = pieces
        self._fields = (title, edit)
        self._name = name
        self._late = late
        self._before = before
        self.title: str | None = None
        self.edit: EditSpec | None = None
        self.finished = False

    def open_file(self) -> str:
        if not self._late:
            self.title, self.edit = self._fields
        return self._name

    def read_file(self) -> Iterator[bytes]:
        for number, piece in enumerate(self._pieces):
            self._before(number)
            yield piece
        self.title, self.edit = self._fields
        self.finished = True


class ObservedRuntime(ManualRuntime):
    """A runtime that records each sleep, in seconds."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        super().sleep(seconds)


class World:
    def __init__(self, store: InMemoryStore | None = None) -> None:
        self.clock = ManualClock()
        self.store = store or InMemoryStore(self.clock.now)
        self.objects = InMemoryObjects()
        self.runtime = ObservedRuntime(self.clock)
        self.woken = 0
        self.sessions = UploadSessions(
            store=self.store,
            objects=self.objects,
            max_bytes=10_000,
            idempotency_lifetime=timedelta(days=1),
            wake_relay=self._wake,
            runtime=self.runtime,
            new_id=new_id,
        )

    def upload(self, caller: Caller, form: FakeForm, *, idempotency_key: str | None = None) -> Record:
        """Run an upload session for a form, as the API does."""
        name = form.open_file()
        with self.sessions.begin(
            caller, file_name=name, title=form.title, edit=form.edit, idempotency_key=idempotency_key
        ) as session:
            for piece in form.read_file():
                session.append(piece)
            return session.complete(form.title, form.edit)

    def videos(self) -> Sequence[Record]:
        return self.store.listing(owner=None)

    def _wake(self) -> None:
        self.woken += 1

    def holds_nothing(self) -> bool:
        return not (self.videos() or self.objects.contents or self.objects.unfinished)


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
@pytest.mark.parametrize(
    ("title", "code"),
    [("", "title_empty"), ("x" * 10_000, "title_too_long"), ("a\nb", "title_unprintable")],
)
def test_a_bad_title_leaves_neither_row_nor_object(world: World, title: str, code: str, *, late: bool) -> None:
    form = FakeForm(title=title, late=late)

    with pytest.raises(Invalid) as refusal:
        world.upload(ANA, form)

    assert refusal.value.code == code
    assert world.holds_nothing()
    # An invalid field before the file ends the session before the file is read.
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

    # One piece arrives per second, the first at 1 s. The session renews the upload at 6 s, at 11 s and at the end.
    world.upload(ANA, FakeForm([VIDEO, *[b"x"] * 11], before=lambda _: world.clock.advance(timedelta(seconds=1))))

    assert store.renewals == 3


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
            # Make the database unavailable, so that the session can't abandon the upload when its process dies.
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
    """A store that loses the answers of the first `times` completions. If `commits`, it commits these completions."""

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
    """A store in which the video is deleted between the last renewal and the completion."""

    def complete_upload(self, video_id: str, *args: object, **kwargs: object) -> Record:
        self.delete(video_id, grace=timedelta(hours=24))
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

    again = replace(world.sessions, store=cast("Uploads", Reads()))
    with again.begin(ANA, file_name="clip.mp4", idempotency_key="k") as session:
        session.append(VIDEO)
        session.complete("A title", None)

    assert asked == ["begin_upload"]


@pytest.mark.parametrize(
    "other",
    [FakeForm([VIDEO + b"!"]), FakeForm(title="Another"), FakeForm(edit=NO_INTRO)],
    ids=["another file", "another title", "another edit"],
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
