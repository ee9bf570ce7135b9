"""Tests that random sequences of calls give the same results with the in-memory store and with a SQL store."""

import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from anb_core.adapters.database.tables import EPOCH
from anb_core.domain.dead_letters import DeadLetter, DeadLetterFilter
from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Refused
from anb_core.domain.limits import Cap, Limits
from anb_core.domain.model import DeadLetterCause, Idempotency, Lease, NewVideo, Receipts, Record, Result, Source
from anb_core.domain.retry import (
    RetryPolicy,
    plan_failure,
    plan_interruption,
    plan_outage,
    plan_rejection,
)
from anb_core.domain.status import Status
from anb_core.ports.store import Claimed, Dropped, OutboxEntry, Replay, Store, Unknown
from anb_core.testing.promises import check_promises
from tests.support.given import BAD_INPUT, PROBLEM
from tests.support.stores import Backend, InMemory, Sql

# Durations by which the test advances the clock: multiples of 30 s.
# No deadline is a multiple of 30 s. Otherwise a deadline could pass between the calls to the first and second store.
# The negative duration simulates a failover to a server whose clock is 30 s behind.
STEPS = [
    timedelta(seconds=-30),
    timedelta(seconds=30),
    timedelta(seconds=90),
    timedelta(minutes=11),
    timedelta(hours=25, minutes=1),
]
LEASE = timedelta(seconds=75)
LIFETIME = timedelta(seconds=75)
HOLD = timedelta(seconds=45)
GRACE = timedelta(hours=3, seconds=15)
AGE = timedelta(hours=4, seconds=15)
POLICY = RetryPolicy(max_failures=2, max_lost=2, backoff_base=timedelta(seconds=40), backoff_cap=timedelta(seconds=200))
KEY = Idempotency("key", timedelta(hours=1, seconds=15))
SOURCES = [Source(1, "aa"), Source(2)]

videos = st.sampled_from(["v1", "v2", "v3"])
generations = st.sampled_from([None, 1, 2])
places = st.integers(0, 3)
delays = st.sampled_from([None, timedelta(hours=-1), timedelta(minutes=2, seconds=15)])
receipts = st.none() | st.dictionaries(st.sampled_from(["one", "two"]), st.just({"retry": "a", "cancel": None}))


class Pair:
    """Two stores that receive the same calls."""

    def __init__(self, left: Backend, right: Backend) -> None:
        self.sides = (left, right)

    def both(self, call: Callable[[Store], Any]) -> tuple[Any, Any]:
        """Call both stores, and return both results. The results must be equal, except for times and row ids."""
        left, right = (self._answer(backend.store, call) for backend in self.sides)
        assert plain(left) == plain(right)
        return left, right

    def _answer(self, store: Store, call: Callable[[Store], Any]) -> Any:
        try:
            return call(store)
        except Refused as refused:
            # Remove row ids and times from the message, because they differ between the stores.
            return type(refused).__name__, refused.code, re.sub(r"letter \d+|at \d.* UTC", "", refused.message)


def plain(value: Any) -> str:
    """Return the value as text, without times, row ids and tokens of holds, which differ between stores."""
    return repr(_timeless(value))


def _timeless(value: Any) -> Any:
    match value:
        case tuple() | list():
            return [_timeless(part) for part in value]
        case OutboxEntry():
            return (value.video_id, value.task_id, value.owner, value.generation, value.key, value.tries)
        case Record(video=video, job=job):
            times = (job.lease_expires_at, job.not_before, job.enqueued_at, video.process_after)
            return (
                *(getattr(video, name) for name in ("id", "owner", "title", "edit", "source_key", "owned", "source")),
                *(getattr(job, name) for name in ("id", "status", "generation", "fence", "version", "counters")),
                *(getattr(job, name) for name in ("progress", "attempts", "lease_owner", "worker", "enqueued_to")),
                *(job.error, job.result, job.receipts, [time is not None for time in times]),
            )
        case Replay(record=record, fingerprint=fingerprint):
            return _timeless(record), fingerprint
        case Claimed(lease=lease, record=record):
            return lease, _timeless(record)
        case DeadLetter():
            value = replace(value, id=0, created_at=EPOCH, resolved_at=value.resolved_at and EPOCH)
    return value


class Stores(RuleBasedStateMachine):
    """A state machine that makes the same random calls to two stores: the calls of API, workers, relay and sweep."""

    template: Path

    leases = Bundle("leases")
    entries = Bundle("entries")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="anb-stateful-"))
        copy = shutil.copy(self.template, self.folder / "anb.db")
        self.pair = Pair(InMemory(), Sql(f"sqlite:///{copy}"))
        self.numbers = count(1)
        self.earlier = self.pair.sides[0].evidence()

    def teardown(self) -> None:
        try:
            check_promises(self.pair.sides[1].evidence(), POLICY)
        finally:
            for backend in self.pair.sides:
                backend.close()
            shutil.rmtree(self.folder)

    def new(self, video_id: str, *, owned: bool) -> NewVideo:
        task_id = f"t{next(self.numbers)}"
        return NewVideo(video_id, task_id, "ada", "T", EditSpec(), f"uploads/{video_id}.mp4", owned, "f.mp4")

    @rule(video_id=videos, owned=st.booleans(), key=st.none() | st.just(KEY), size=st.none() | st.just(7))
    def begin(self, video_id: str, owned: bool, key: Idempotency | None, size: int | None) -> None:  # noqa: FBT001 - hypothesis calls it
        new = self.new(video_id, owned=owned)
        self.pair.both(lambda store: store.begin_upload(new, lifetime=LIFETIME, idempotency=key, size=size))

    @rule(video_id=videos)
    def renew_upload(self, video_id: str) -> None:
        self.pair.both(lambda store: store.renew_upload(video_id, lifetime=LIFETIME))

    @rule(video_id=videos, source=st.sampled_from(SOURCES), fingerprint=st.none() | st.just("f"), delay=delays)
    def complete(self, video_id: str, source: Source, fingerprint: str | None, delay: timedelta | None) -> None:
        def complete(store: Store) -> Record:
            after = None if delay is None else store.now() + delay
            return store.complete_upload(video_id, source, title="Better", process_after=after, fingerprint=fingerprint)

        self.pair.both(complete)

    @rule(video_id=videos)
    def abandon(self, video_id: str) -> None:
        self.pair.both(lambda store: store.abandon_upload(video_id))

    @rule(video_id=videos, owned=st.booleans(), delay=delays)
    def submit_existing(self, video_id: str, owned: bool, delay: timedelta | None) -> None:  # noqa: FBT001 - hypothesis calls it
        new = self.new(video_id, owned=owned)

        def submit(store: Store) -> tuple[Record, bool]:
            after = None if delay is None else store.now() + delay
            return store.submit_existing(replace(new, process_after=after), SOURCES[0])

        self.pair.both(submit)

    @rule(video_id=videos, receipts=receipts)
    def cancel(self, video_id: str, receipts: Receipts | None) -> None:
        self.pair.both(lambda store: store.cancel(video_id, receipts=receipts))

    @rule(video_id=videos, receipts=receipts)
    def retry(self, video_id: str, receipts: Receipts | None) -> None:
        self.pair.both(lambda store: store.retry(video_id, by="ada", receipts=receipts))

    @rule(video_id=videos)
    def delete(self, video_id: str) -> None:
        self.pair.both(lambda store: store.delete(video_id, by="ada", grace=GRACE))

    @rule(target=leases, video_id=videos, generation=generations)
    def claim(self, video_id: str, generation: int | None) -> Lease | MultipleResults[Lease]:
        attempt_id = f"a{next(self.numbers)}"

        def claim(store: Store) -> Claimed | Dropped | Unknown:
            return store.claim(
                video_id, generation=generation, attempt_id=attempt_id, worker="w", lease=LEASE, policy=POLICY
            )

        claimed = self.pair.both(claim)
        if not isinstance(claimed[0], Claimed):
            return multiple()
        assert self.pair.both(claim) == claimed
        return claimed[0].lease

    @rule(video_id=videos, message_id=st.sampled_from(["m1", "m2", "m3", "m4"]), generation=generations)
    def receive_dead_letter(self, video_id: str, message_id: str, generation: int | None) -> None:
        self.pair.both(
            lambda store: store.receive_dead_letter(
                message_id=message_id, body="{}", video_id=video_id, generation=generation, policy=POLICY
            )
        )

    @rule(message_id=st.sampled_from(["m1", "m5"]))
    def record_dead_letter(self, message_id: str) -> None:
        self.pair.both(
            lambda store: store.record_dead_letter(
                cause=DeadLetterCause.UNREADABLE, message_id=message_id, body="?" * 5000, detail="not JSON"
            )
        )

    @rule(place=places)
    def redrive(self, place: int) -> None:
        self.pair.both(lambda store: store.redrive_dead_letter(_dead_letter(store, place), by="ada", delay=HOLD))

    @rule(place=places)
    def discard(self, place: int) -> None:
        self.pair.both(lambda store: store.discard_dead_letter(_dead_letter(store, place), by="eve", reason="Old."))

    @rule(place=places)
    def announce(self, place: int) -> None:
        self.pair.both(lambda store: store.mark_announced([_dead_letter(store, place)]))

    @rule(lease=leases)
    def renew(self, lease: Lease) -> None:
        self.pair.both(lambda store: store.renew(lease, duration=LEASE))

    @rule(lease=leases, progress=st.floats(0, 1))
    def report(self, lease: Lease, progress: float) -> None:
        self.pair.both(lambda store: store.report_progress(lease, progress))

    @rule(lease=leases)
    def publish(self, lease: Lease) -> None:
        self.pair.both(lambda store: store.publish(lease, Result(lease.result_key, 9, "bb", 1280, 720, 35.5, 1065)))

    @rule(lease=leases, ending=st.sampled_from(["failure", "outage", "interruption", "rejection"]))
    def settle(self, lease: Lease, ending: str) -> None:
        match ending:
            case "failure":
                settlement = plan_failure(lease.counters, PROBLEM, POLICY, 1.0)
            case "outage":
                settlement = plan_outage(lease.counters, PROBLEM, POLICY, 1.0)
            case "interruption":
                settlement = plan_interruption(lease.counters)
            case _:
                settlement = plan_rejection(lease.counters, BAD_INPUT)
        self.pair.both(lambda store: store.settle(lease, settlement))

    @rule(target=entries)
    def hold_outbox(self) -> tuple[list[OutboxEntry], list[OutboxEntry]]:
        left, right = (
            sorted(backend.store.hold_outbox(limit=100, hold=HOLD), key=lambda entry: entry.video_id)
            for backend in self.pair.sides
        )
        assert plain(left) == plain(right)
        return left, right

    @rule(entries=entries, sent=st.booleans())
    def mark(self, entries: tuple[list[OutboxEntry], list[OutboxEntry]], sent: bool) -> None:  # noqa: FBT001 - likewise
        for backend, side in zip(self.pair.sides, entries, strict=True):
            for entry in side:
                if sent:
                    backend.store.mark_sent(entry, broker="queue")
                else:
                    backend.store.mark_unsent(entry, delay=HOLD)

    @rule(step=st.sampled_from(STEPS))
    def pass_time(self, step: timedelta) -> None:
        for backend in self.pair.sides:
            backend.pass_time(step)

    @rule(not_on=st.sampled_from(["queue", "other"]))
    def sweep(self, not_on: str) -> None:
        self.pair.both(lambda store: store.end_expired_leases(limit=100, policy=POLICY))
        self.pair.both(lambda store: store.end_expired_uploads(limit=100))
        self.pair.both(lambda store: store.requeue_overdue(slack=timedelta(seconds=105), limit=100))
        self.pair.both(lambda store: store.requeue_unclaimed(not_on=[not_on], limit=100))
        self.pair.both(lambda store: store.requeue_unclaimed(enqueued_before=timedelta(seconds=75), limit=100))

    @rule()
    def delete_objects(self) -> None:
        for backend in self.pair.sides:
            backend.store.deletion_done(backend.store.hold_deletions(limit=1000, hold=HOLD))

    @rule()
    def purge(self) -> None:
        self.pair.both(
            lambda store: store.purge(events_before=timedelta(hours=2, seconds=15), dead_letters_before=AGE, limit=1000)
        )

    @invariant()
    def both_tell_the_same(self) -> None:
        records, _ = self.pair.both(lambda store: sorted(store.listing(owner=None), key=lambda one: one.video.id))
        for record in records:
            self.pair.both(_attempts_of(record.video.id))
        self.pair.both(lambda store: store.dead_letters(DeadLetterFilter(state="all")))
        self.pair.both(lambda store: store.unannounced_dead_letters(limit=100))
        self.pair.both(lambda store: sorted(store.open_dead_letters().items()))
        self.pair.both(lambda store: sorted(store.count_by_status().items()))
        # The error has the numbers of unfinished videos or of stored bytes.
        for cap in (Cap(unfinished=0), Cap(stored_bytes=0)):
            self.pair.both(lambda store, cap=cap: store.check_limits(Limits(per_owner=cap), owner="ada"))  # type: ignore[misc]
        self.pair.both(
            lambda store: {name: (jobs.waiting, jobs.running) for name, jobs in store.count_by_queue().items()}
        )
        self.pair.both(
            lambda store: [
                (event.kind, event.video_id, event.version, event.status, event.progress, event.error)
                for event in store.events_after(0, limit=10_000)
            ]
        )
        seen = [
            (sorted((one.key, one.reason) for one in backend.deletions()), plain(backend.dead_letters()))
            for backend in self.pair.sides
        ]
        assert seen[0] == seen[1]

    @invariant()
    def every_dead_lettered_job_can_be_redriven_and_no_other_has_an_open_dead_letter(self) -> None:
        store = self.pair.sides[0].store
        open_ones = {letter.video_id for letter in store.dead_letters(DeadLetterFilter())} - {None}
        dead = [one.video.id for one in store.listing(owner=None, statuses=[Status.DEAD_LETTERED])]
        assert open_ones <= set(dead)
        for video_id in dead:
            assert store.history(video_id).dead_letter is not None

    @invariant()
    def the_promises_hold(self) -> None:
        evidence = self.pair.sides[0].evidence()
        check_promises(evidence, POLICY, earlier=self.earlier)
        self.earlier = evidence


def _attempts_of(video_id: str) -> Callable[[Store], list[object]]:
    return lambda store: [
        store.history(video_id).dead_letter,
        *((one.id, one.fence, one.generation, one.ending, one.error) for one in store.history(video_id).attempts),
    ]


def _dead_letter(store: Store, place: int) -> int:
    """Return the id of the dead letter at this place, counted from the newest. 0 if there is no such dead letter."""
    found = store.dead_letters(DeadLetterFilter(state="all"))
    return found[place].id if place < len(found) else 0


def test_memory_and_sqlite_tell_the_same_whatever_happens(sqlite_template: Path) -> None:
    machine = type("OnSqlite", (Stores,), {"template": sqlite_template})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=5,
            stateful_step_count=40,
            deadline=None,
            # Skip Hypothesis's shrink phase, because shrinking takes minutes and forty steps are short enough to read.
            phases=[Phase.reuse, Phase.generate],
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
