"""Tests that the store stays consistent when several threads or processes call the store at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

from anb_core.adapters.system import new_id
from anb_core.domain.claim import Reason
from anb_core.domain.dead_letters import DeadLetter, DeadLetterFilter
from anb_core.domain.errors import Conflict, NotFound
from anb_core.domain.model import Counters, DeadLetterCause, Ending, Idempotency, JobEvent, Lease, Record, Source
from anb_core.domain.status import Status
from anb_core.ports.store import Claimed, Dropped, QueueLimit, Replay, Store
from tests.contract.store.conftest import at_once
from tests.support.given import (
    DAY,
    HOUR,
    LEASE,
    MINUTE,
    POLICY,
    SOURCE,
    claim,
    dead_lettered,
    interrupt,
    new_video,
    processing,
    record_of,
    result,
    sent,
    uploaded,
    uploading,
)
from tests.support.stores import Backend

THREADS = 8


def stores(backend: Backend, count: int = THREADS) -> list[Store]:
    """Return a store for each thread. The threads use two stores in turn, as if the threads ran in two processes."""
    pair = (backend.store, backend.another())
    return [pair[number % 2] for number in range(count)]


def test_of_eight_claims_exactly_one_gets_the_job(backend: Backend) -> None:
    video_id = uploaded(backend.store)
    answers = at_once(
        *(
            lambda store=store: store.claim(
                video_id, generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY
            )
            for store in stores(backend)
        )
    )
    assert sum(isinstance(answer, Claimed) for answer in answers) == 1
    assert answers.count(Dropped(Reason.LEASED)) == THREADS - 1
    assert record_of(backend.store, video_id).job.fence == 1
    assert len(backend.store.history(video_id).attempts) == 1


def test_an_expired_lease_is_lost_once_however_many_notice_it(backend: Backend) -> None:
    store = backend.store
    lost = processing(store)
    backend.pass_time(LEASE)
    claims = (
        lambda store=store: store.claim(
            lost.video_id, generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY
        )
        for store in stores(backend, 4)
    )
    sweeps = (lambda store=store: store.end_expired_leases(limit=10, policy=POLICY) for store in stores(backend, 4))
    answers = at_once(*(call for pair in zip(claims, sweeps, strict=True) for call in pair))
    swept = sum(answer for answer in answers if isinstance(answer, int))
    taken = [answer for answer in answers if isinstance(answer, Claimed)]
    assert swept <= 1
    assert len(taken) <= 1
    assert swept or taken
    assert record_of(store, lost.video_id).job.counters == Counters(lost=1)
    assert [attempt.ending for attempt in store.history(lost.video_id).attempts].count(Ending.LOST) == 1


def test_a_result_and_a_cancellation_exclude_one_another(backend: Backend) -> None:
    for _ in range(5):
        lease = processing(backend.store)

        def publish(lease: Lease = lease) -> bool:
            return backend.store.publish(lease, result(lease))

        def cancel(lease: Lease = lease) -> bool:
            try:
                backend.another().cancel(lease.video_id)
            except Conflict:
                return False
            return True

        published, cancelled = at_once(publish, cancel)
        assert published is not cancelled
        job = record_of(backend.store, lease.video_id).job
        assert job.status is (Status.PROCESSED if published else Status.CANCELLED)
        scheduled = {one.key for one in backend.deletions()}
        assert (lease.result_key in scheduled) is cancelled


def test_an_upload_completed_by_many_is_completed_once(backend: Backend) -> None:
    video_id = uploading(backend.store).video.id
    records = at_once(*(lambda store=store: store.complete_upload(video_id, SOURCE) for store in stores(backend)))
    assert len(set(map(repr, records))) == 1
    assert len(backend.store.events_after(0)) == 2
    assert len(backend.store.hold_outbox(limit=10, hold=MINUTE)) == 1


def test_completing_and_abandoning_exclude_one_another(backend: Backend) -> None:
    for _ in range(5):
        begun = uploading(backend.store)

        def complete(begun: Record = begun) -> bool:
            try:
                backend.store.complete_upload(begun.video.id, SOURCE)
            except NotFound:
                return False
            return True

        def abandon(begun: Record = begun) -> bool:
            backend.another().abandon_upload(begun.video.id)
            return True

        completed, _ = at_once(complete, abandon)
        assert (backend.store.get(begun.video.id) is not None) is completed
        assert (begun.video.source_key in {one.key for one in backend.deletions()}) is not completed


def test_one_key_begins_one_upload_however_often_it_is_sent(backend: Backend) -> None:
    key = Idempotency("key", DAY)
    answers = at_once(
        *(
            lambda store=store: store.begin_upload(new_video(), lifetime=MINUTE, idempotency=key)
            for store in stores(backend)
        )
    )
    [begun] = [answer for answer in answers if isinstance(answer, Record)]
    replays = [answer for answer in answers if isinstance(answer, Replay)]
    assert replays == [Replay(begun, None)] * (THREADS - 1)
    assert len(backend.store.listing(owner=None)) == 1


def test_of_many_that_find_an_upload_silent_one_takes_its_key(backend: Backend) -> None:
    key = Idempotency("key", DAY, silence=MINUTE)
    silent = uploading(backend.store, idempotency=key)
    backend.pass_time(MINUTE)
    answers = at_once(
        *(
            lambda store=store: store.begin_upload(new_video(), lifetime=MINUTE, idempotency=key)
            for store in stores(backend)
        )
    )
    [begun] = [answer for answer in answers if isinstance(answer, Record)]
    assert backend.store.get(silent.video.id) is None
    assert [record.video.id for record in backend.store.listing(owner=None)] == [begun.video.id]


def test_an_object_submitted_by_many_is_recorded_once(backend: Backend) -> None:
    videos = [new_video("the-same", owned=False) for _ in range(THREADS)]
    answers = at_once(
        *(
            lambda store=store, new=new: store.submit_existing(new, Source(1))
            for store, new in zip(stores(backend), videos, strict=True)
        )
    )
    assert [created for _, created in answers].count(True) == 1
    assert len({record.job.id for record, _ in answers}) == 1
    assert len(backend.store.hold_outbox(limit=10, hold=MINUTE)) == 1


def test_relays_never_hold_the_same_entry(backend: Backend) -> None:
    videos = {uploaded(backend.store) for _ in range(20)}
    held = at_once(*(lambda store=store: store.hold_outbox(limit=5, hold=MINUTE) for store in stores(backend)))
    seen = [entry.video_id for entries in held for entry in entries]
    assert len(seen) == len(set(seen))
    rest = [entry.video_id for entry in backend.store.hold_outbox(limit=20, hold=MINUTE)]
    assert set(seen) | set(rest) == videos


def test_relays_that_ask_at_the_same_time_do_not_exceed_the_queues_limit_together(backend: Backend) -> None:
    for _ in range(20):
        uploaded(backend.store)
    limit = QueueLimit("queue", 5)
    held = at_once(
        *(lambda store=store: store.hold_outbox(limit=3, hold=MINUTE, queue_limit=limit) for store in stores(backend))
    )
    assert sum(len(entries) for entries in held) == limit.messages


def test_deletions_are_held_by_one_process_at_a_time(backend: Backend) -> None:
    for _ in range(10):
        backend.store.abandon_upload(uploading(backend.store).video.id)
    held = at_once(*(lambda store=store: store.hold_deletions(limit=3, hold=MINUTE) for store in stores(backend)))
    seen = [deletion.id for deletions in held for deletion in deletions]
    assert len(seen) == len(set(seen))


def test_two_sweeps_at_once_promise_one_message_a_job(backend: Backend) -> None:
    store = backend.store
    videos = [uploaded(store) for _ in range(5)]
    for entry in store.hold_outbox(limit=10, hold=MINUTE):
        store.mark_sent(entry, broker="queue")
    backend.pass_time(HOUR)
    answers = at_once(
        *(lambda store=store: store.requeue_unclaimed(enqueued_before=MINUTE, limit=10) for store in stores(backend))
    )
    assert sum(answers) == len(videos)
    assert len(store.hold_outbox(limit=100, hold=MINUTE)) == len(videos)


def test_one_process_at_a_time_is_let_in(backend: Backend) -> None:
    leave = threading.Barrier(THREADS)

    def enter(store: Store) -> bool:
        with store.exclusively("sweep", lifetime=MINUTE) as ours:
            leave.wait(timeout=30)
            return ours

    assert sum(at_once(*(lambda store=store: enter(store) for store in stores(backend)))) == 1


def test_a_reader_of_the_feed_skips_nothing_while_many_write(backend: Backend) -> None:
    rounds = 5
    done = threading.Event()

    def write(store: Store) -> None:
        for _ in range(rounds):
            lease = claim(store, uploaded(store))
            assert store.report_progress(lease, 0.5)
            assert interrupt(store, lease)

    def read(store: Store) -> list[JobEvent]:
        seen: list[JobEvent] = []
        while True:
            last_look = done.is_set()
            seen += store.events_after(seen[-1].id if seen else 0, limit=7)
            if last_look and store.last_event_id() == (seen[-1].id if seen else 0):
                return seen

    with ThreadPoolExecutor(THREADS + 1) as pool:
        reader = pool.submit(read, backend.another())
        writers = [pool.submit(write, store) for store in stores(backend)]
        for writer in writers:
            writer.result(timeout=60)
        done.set()
        seen = reader.result(timeout=60)
    everything = backend.store.events_after(0, limit=10_000)
    assert [event.id for event in seen] == [event.id for event in everything]
    assert len(everything) == THREADS * rounds * 5


def test_every_loser_knows_that_it_lost(backend: Backend) -> None:
    """Eight workers claim the job one after the other. Only the last worker may end the job."""
    store = backend.store
    video_id = uploaded(store)
    leases = []
    for number in range(THREADS):
        leases.append(claim(store, video_id, worker=f"worker-{number}", lease=timedelta(0)))
        if number < THREADS - 1:
            assert interrupt(store, leases[-1])
    answers = at_once(
        *(
            lambda store=store, lease=lease: store.publish(lease, result(lease))
            for store, lease in zip(stores(backend), leases, strict=True)
        )
    )
    assert answers == [False] * (THREADS - 1) + [True]
    current = record_of(store, video_id).job.result
    assert current is not None
    assert current.key == leases[-1].result_key


def test_of_two_people_who_redrive_or_discard_at_once_one_wins(backend: Backend) -> None:
    dead_lettered(backend.store)
    assert backend.store.record_dead_letter(cause=DeadLetterCause.UNREADABLE, message_id="m", body="?", detail="")
    for letter in backend.store.dead_letters(DeadLetterFilter(state="all")):

        def handle(store: Store, letter: DeadLetter = letter) -> str:
            try:
                if letter.video_id and store is backend.store:
                    store.redrive_dead_letter(letter.id, by="ada")
                else:
                    store.discard_dead_letter(letter.id, by="eve", reason="")
            except Conflict as refused:
                return refused.code
            return "done"

        answers = at_once(*(partial(handle, store) for store in stores(backend, 4)))
        assert sorted(answers) == ["dead_letter_resolved"] * 3 + ["done"]
    assert len(backend.store.dead_letters(DeadLetterFilter(state="resolved"))) == 2


def test_a_moved_message_that_two_processes_receive_at_once_counts_once(backend: Backend) -> None:
    video_id = uploaded(backend.store)
    sent(backend.store, video_id)
    answers = at_once(
        *(
            lambda store=store: store.receive_dead_letter(
                message_id="m", body="{}", video_id=video_id, generation=1, policy=POLICY
            )
            for store in stores(backend)
        )
    )
    assert [answer is None for answer in answers].count(False) == 1
    assert record_of(backend.store, video_id).job.counters.lost == 1
    assert len(backend.store.dead_letters(DeadLetterFilter(state="all"))) == 1
