from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

import pytest

from anb_core.domain.dead_letters import DeadLetter, DeadLetterFilter, Resolution
from anb_core.domain.errors import Busy, Conflict, Forbidden, Invalid, NotFound, Refused, Unavailable
from anb_core.domain.model import DeadLetterCause, Record, Scope
from anb_core.domain.status import Status
from anb_core.ports.store import History
from anb_core.testing.clock import ManualClock
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.store import InMemoryStore
from anb_core.usecases import dead_letters
from anb_core.usecases.dead_letters import PACE, RedriveReport
from anb_core.usecases.visibility import Caller
from tests.support.given import DAY, SECOND, claim, dead_lettered, due, record_of

ANA, OPS = Caller("ana"), Caller("olga", Scope.OPS)
ALL = DeadLetterFilter(state="all")
AWAY = Unavailable("database", "the database does not answer")


class FaultyStore(InMemoryStore):
    """A store that raises an error for the redrive of each dead letter in `faults`.

    Before the store reads a video, it calls each function in `meanwhile` once. So a test can act like another person
    who is faster.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(clock)
        self.faults: dict[int, Exception] = {}
        self.meanwhile: list[Callable[[], object]] = []

    def get(self, video_id: str) -> Record | None:
        self._let_others_act()
        return super().get(video_id)

    def histories(self, video_ids: Collection[str]) -> Mapping[str, History]:
        self._let_others_act()
        return super().histories(video_ids)

    def _let_others_act(self) -> None:
        while self.meanwhile:
            self.meanwhile.pop()()

    def redrive_dead_letter(self, dead_letter_id: int, *, by: str, delay: timedelta = timedelta(0)) -> Record:
        if fault := self.faults.get(dead_letter_id):
            raise fault
        return super().redrive_dead_letter(dead_letter_id, by=by, delay=delay)


@dataclass
class World:
    clock: ManualClock = field(default_factory=ManualClock)
    objects: InMemoryObjects = field(default_factory=InMemoryObjects)
    woken: int = 0

    def __post_init__(self) -> None:
        self.store = FaultyStore(self.clock.now)

    def wake(self) -> None:
        self.woken += 1

    def dead_letter(self, *, owner: str = "ana", source: bool = True) -> DeadLetter:
        """Create a dead-lettered video, and return its dead letter. If `source` is false, its file does not exist."""
        video_id = dead_lettered(self.store, owner=owner)
        if source:
            self.objects.put(record_of(self.store, video_id).video.source_key, b"video")
        self.clock.advance(SECOND)
        return self.letters()[-1]

    def message(self) -> DeadLetter:
        """Create a dead letter without a video."""
        self.store.record_dead_letter(
            cause=DeadLetterCause.UNREADABLE, message_id=str(self.clock.now()), body="?", detail="It is not JSON."
        )
        self.clock.advance(SECOND)
        return self.letters()[-1]

    def letters(self) -> list[DeadLetter]:
        """Return all dead letters, oldest first."""
        return list(self.store.dead_letters(ALL, limit=1000))[::-1]

    def redrive(self, letter: DeadLetter, caller: Caller = OPS) -> Record:
        return dead_letters.redrive(self.store, self.objects, caller, letter.id, wake_relay=self.wake)

    def redrive_many(
        self, wanted: DeadLetterFilter | None = None, *, cap: int = 1000, dry_run: bool = False, caller: Caller = OPS
    ) -> RedriveReport:
        return dead_letters.redrive_many(
            self.store,
            self.objects,
            caller,
            wanted or DeadLetterFilter(),
            cap=cap,
            dry_run=dry_run,
            each=map,
            wake_relay=self.wake,
        )


@pytest.fixture
def world() -> World:
    return World()


def refusal(world: World, letter: DeadLetter) -> str:
    """Try to redrive a dead letter. Checks that this fails and changes nothing, and returns the code of the error."""
    before = world.letters()
    with pytest.raises(Refused) as refused:
        world.redrive(letter)
    assert (world.letters(), world.woken) == (before, 0)
    return refused.value.code


def test_only_a_caller_of_scope_ops_may_see_or_handle_dead_letters(world: World) -> None:
    letter = world.dead_letter()
    for order in (
        lambda: dead_letters.browse(world.store, ANA, ALL, limit=10),
        lambda: dead_letters.show(world.store, ANA, letter.id),
        lambda: world.redrive(letter, ANA),
        lambda: world.redrive_many(caller=ANA),
        lambda: dead_letters.discard(world.store, ANA, letter.id, reason="A test."),
    ):
        with pytest.raises(Forbidden, match="scope ops; this one has scope user") as forbidden:
            order()
        assert forbidden.value.code == "scope_missing"
    assert world.letters() == [letter]


def test_pages_show_every_dead_letter_once_newest_first(world: World) -> None:
    made = [world.dead_letter() for _ in range(5)]
    seen, after = [], None
    while True:
        page = dead_letters.browse(world.store, OPS, DeadLetterFilter(), after=after, limit=2)
        seen.append(list(page.dead_letters))
        after = page.after
        if after is None:
            break
    assert seen == [[made[4], made[3]], [made[2], made[1]], [made[0]]]


def test_a_time_span_that_ends_before_it_begins_is_refused(world: World) -> None:
    now = world.clock.now()
    wanted = DeadLetterFilter(since=now, until=now - SECOND)
    for order in (
        lambda: dead_letters.browse(world.store, OPS, wanted, limit=10),
        lambda: world.redrive_many(wanted),
    ):
        with pytest.raises(Invalid, match="since: it must not be later than until") as refused:
            order()
        assert refused.value.code == "request_invalid"


def test_a_dead_letter_is_shown_with_the_attempts_of_its_generation(world: World) -> None:
    letter = world.dead_letter()
    assert letter.video_id
    job = world.redrive(letter).job
    claim(world.store, job.video_id)
    shown, attempts = dead_letters.show(world.store, OPS, letter.id)
    assert (shown.id, shown.resolution, [attempt.generation for attempt in attempts]) == (
        letter.id,
        Resolution.REDRIVEN,
        [1],
    )
    assert dead_letters.show(world.store, OPS, world.message().id)[1] == []
    with pytest.raises(NotFound) as missing:
        dead_letters.show(world.store, OPS, 7777)
    assert missing.value.code == "dead_letter_not_found"


def test_a_redrive_retries_the_job_and_wakes_the_relay(world: World) -> None:
    letter = world.dead_letter()
    job = world.redrive(letter).job
    assert (job.status, job.generation, world.woken) == (Status.UPLOADED, 2, 1)
    [resolved] = world.letters()
    assert (resolved.resolution, resolved.resolved_by) == (Resolution.REDRIVEN, "olga")


def test_a_redrive_that_cannot_be_says_why_and_changes_nothing(world: World) -> None:
    assert refusal(world, world.dead_letter(source=False)) == "source_missing"
    assert refusal(world, world.message()) == "dead_letter_without_video"
    deleted = world.dead_letter()
    # Programs older than migration 0005 delete a video without resolving its dead letter.
    world.store.rows[deleted.video_id or ""].deleted_at = world.clock.now()
    assert refusal(world, deleted) == "dead_letter_without_video"
    handled = world.dead_letter()
    dead_letters.discard(world.store, OPS, handled.id, reason="A test.")
    assert refusal(world, handled) == "dead_letter_resolved"
    with pytest.raises(NotFound):
        dead_letters.redrive(world.store, world.objects, OPS, 7777, wake_relay=world.wake)


@pytest.mark.parametrize("status", [Status.PROCESSED, Status.PROCESSING])
def test_a_job_that_is_processed_or_live_is_not_redriven(world: World, status: Status) -> None:
    letter = world.dead_letter()
    # Programs older than migration 0005 retry a job without resolving its dead letter.
    row = world.store.rows[letter.video_id or ""]
    row.record = replace(row.record, job=replace(row.job, status=status))
    assert refusal(world, letter) == "wrong_status"
    report = world.redrive_many()
    assert [one.code for one in report.skipped] == ["wrong_status"]


def test_a_discard_names_who_and_why(world: World) -> None:
    letter = world.dead_letter()
    dead_letters.discard(world.store, OPS, letter.id, reason="A test.")
    [discarded] = world.letters()
    assert (discarded.resolution, discarded.resolved_by, discarded.reason) == (
        Resolution.DISCARDED,
        "olga",
        "A test.",
    )
    with pytest.raises(Conflict, match="was discarded by olga") as refused:
        dead_letters.discard(world.store, OPS, letter.id, reason="Again.")
    assert refused.value.code == "dead_letter_resolved"


def test_redriven_messages_are_sent_at_forty_a_second(world: World) -> None:
    for _ in range(60):
        world.dead_letter()
    assert world.redrive_many().spread == 60 * PACE
    sent = []
    for _ in range(3):
        held = world.store.hold_outbox(limit=1000, hold=DAY)
        sent.append(len(held))
        world.clock.advance(SECOND)
    assert sent == [1, 40, 19]


def test_a_delay_is_added_to_all_messages(world: World) -> None:
    world.dead_letter()
    dead_letters.redrive_many(world.store, world.objects, OPS, ALL, delay=5 * SECOND, each=map, wake_relay=world.wake)
    world.clock.advance(5 * SECOND - timedelta(milliseconds=1))
    assert due(world.store) == []
    world.clock.advance(timedelta(milliseconds=1))
    assert len(due(world.store)) == 1


def test_a_dry_run_tells_the_same_and_changes_nothing(world: World) -> None:
    world.dead_letter(), world.message(), world.dead_letter(source=False)
    before = world.letters()
    foretold = world.redrive_many(dry_run=True)
    assert (world.letters(), world.woken) == (before, 0)
    assert world.redrive_many() == foretold
    assert (len(foretold.redriven), world.woken) == (1, 1)


def test_what_cannot_be_redriven_is_skipped_with_its_reason(world: World) -> None:
    good, gone, without = world.dead_letter(), world.dead_letter(source=False), world.message()
    locked, newer = world.dead_letter(), world.dead_letter()
    world.store.faults[locked.id] = Busy("database", "another session has locked the row")
    world.store.unreadable.add(newer.video_id or "")
    report = world.redrive_many()
    assert report.redriven == [good.id]
    assert {one.dead_letter_id: one.code for one in report.skipped} == {
        gone.id: "source_missing",
        without.id: "dead_letter_without_video",
        locked.id: "database_unavailable",
        newer.id: "video_unreadable",
    }
    assert {one.dead_letter_id: one.message for one in report.skipped}[gone.id].startswith("The uploaded file")
    assert (report.matched, report.left, report.after) == (5, 0, None)


def test_a_cap_leaves_the_rest_and_tells_where_to_go_on(world: World) -> None:
    made = [world.dead_letter(source=number != 3) for number in range(5)]
    first = world.redrive_many(cap=2)
    assert (first.matched, first.redriven, first.left) == (5, [made[4].id], 3)
    second = dead_letters.redrive_many(
        world.store, world.objects, OPS, ALL, cap=3, after=first.after, each=map, wake_relay=world.wake
    )
    assert (second.matched, second.redriven, second.left, second.after) == (
        3,
        [made[2].id, made[1].id, made[0].id],
        0,
        None,
    )


def test_only_open_ones_that_the_filter_selects_are_redriven(world: World) -> None:
    anas, bobs, handled = world.dead_letter(), world.dead_letter(owner="bob"), world.dead_letter()
    dead_letters.discard(world.store, OPS, handled.id, reason="A test.")
    report = world.redrive_many(DeadLetterFilter(owner="ana", state="all"))
    assert (report.matched, report.redriven, report.skipped) == (1, [anas.id], [])
    assert [letter.id for letter in world.letters() if letter.open] == [bobs.id]
    nothing = world.redrive_many(DeadLetterFilter(owner="eve"))
    assert (nothing.matched, nothing.redriven, nothing.skipped, nothing.left) == (0, [], [], 0)


@pytest.mark.parametrize("fault", [AWAY, ZeroDivisionError()])
def test_an_outage_ends_the_order_and_the_same_order_then_does_the_rest(world: World, fault: Exception) -> None:
    made = [world.dead_letter() for _ in range(3)]
    world.store.faults[made[1].id] = fault
    with pytest.raises(type(fault)):
        world.redrive_many()
    assert ([letter.id for letter in world.letters() if letter.open], world.woken) == ([made[0].id, made[1].id], 1)
    world.store.faults.clear()
    assert world.redrive_many().redriven == [made[1].id, made[0].id]


def test_a_bucket_that_is_away_ends_the_order(world: World) -> None:
    world.dead_letter()
    world.objects.fault = Unavailable("bucket", "the bucket does not answer")
    with pytest.raises(Unavailable):
        world.redrive_many()
    assert [letter.open for letter in world.letters()] == [True]


@pytest.mark.parametrize("change", ["redriven", "deleted"])
def test_a_dead_letter_that_another_person_resolves_during_a_redrive_is_called_resolved(
    world: World, change: str
) -> None:
    def resolve_first(letter: DeadLetter) -> None:
        """Prepare an action of another person, for the moment after the next redrive found the dead letter open."""
        assert letter.video_id
        if change == "redriven":
            world.store.meanwhile.append(partial(world.store.redrive_dead_letter, letter.id, by="otto"))
        else:
            world.store.meanwhile.append(partial(world.store.delete, letter.video_id, by="otto", grace=DAY))

    letter = world.dead_letter()
    resolve_first(letter)
    with pytest.raises(Conflict, match=f"ead letter [0-9]+ was {change} by otto") as refused:
        world.redrive(letter)
    assert refused.value.code == "dead_letter_resolved"
    resolve_first(world.dead_letter())
    assert [one.code for one in world.redrive_many().skipped] == ["dead_letter_resolved"]


def test_two_operators_who_redrive_at_once_share_the_work(world: World) -> None:
    made = [world.dead_letter().id for _ in range(200)]
    with ThreadPoolExecutor(2) as threads:
        reports = list(threads.map(lambda _: world.redrive_many(), range(2)))
    assert sorted(id_ for report in reports for id_ in report.redriven) == made
    assert {one.code for report in reports for one in report.skipped} <= {"dead_letter_resolved"}
