"""Tests of messages that SQS moved to the dead-letter queue. Such a message alone does not end its job."""

from collections.abc import Callable

import pytest

from anb_core.adapters.database import engine
from anb_core.adapters.database.rows import lock
from anb_core.domain.dead_letters import DeadLetter, DeadLetterFilter, Resolution
from anb_core.domain.errors import Busy, Unreadable
from anb_core.domain.message import MAX_BODY_BYTES
from anb_core.domain.model import DeadLetterCause, Ending, EventKind
from anb_core.domain.retry import WORKER_LOST
from anb_core.domain.status import Status
from anb_core.ports.store import Store, Unknown
from tests.support.given import (
    DAY,
    LEASE,
    POLICY,
    SECOND,
    dead_lettered,
    due,
    fail,
    failed,
    interrupt,
    processed,
    processing,
    record_of,
    sent,
    uploaded,
    uploading,
)
from tests.support.stores import Backend, Sql

ALL = DeadLetterFilter(state="all")


def receive(
    store: Store, video_id: str, *, message_id: str = "m", body: str = "{}", generation: int | None = 1
) -> DeadLetter | Unknown | None:
    return store.receive_dead_letter(
        message_id=message_id, body=body, video_id=video_id, generation=generation, policy=POLICY
    )


def received(store: Store, video_id: str, *, message_id: str = "m", generation: int | None = 1) -> DeadLetter:
    letter = receive(store, video_id, message_id=message_id, generation=generation)
    assert isinstance(letter, DeadLetter)
    return letter


def sent_and_waiting(store: Store) -> str:
    sent(store, video_id := uploaded(store))
    return video_id


def _cancelled(store: Store) -> str:
    store.cancel(video_id := uploaded(store))
    return video_id


def _deleted(store: Store) -> str:
    store.delete(video_id := sent_and_waiting(store), by="ada", grace=DAY)
    return video_id


def _backing_off(store: Store) -> str:
    lease = processing(store)
    assert fail(store, lease)
    return lease.video_id


def _retried(store: Store) -> str:
    store.retry(video_id := failed(store), by="ada")
    sent(store, video_id)
    return video_id


STALE: dict[str, Callable[[Store], str]] = {
    "uploading": lambda store: uploading(store).video.id,
    "not sent yet": uploaded,
    "leased": lambda store: processing(store).video_id,
    "backing off": _backing_off,
    "processed": processed,
    "failed": failed,
    "dead-lettered": dead_lettered,
    "cancelled": _cancelled,
    "retried meanwhile": _retried,
    "deleted": _deleted,
}


@pytest.mark.parametrize("made", STALE.values(), ids=STALE)
def test_a_message_whose_job_needs_nothing_is_recorded_as_stale_and_changes_nothing(
    backend: Backend, made: Callable[[Store], str]
) -> None:
    store = backend.store
    video_id = made(store)
    before, events, waiting = store.history(video_id), store.last_event_id(), due(store)
    letter = received(store, video_id)
    assert (letter.resolution, letter.cause, letter.open) == (Resolution.STALE, DeadLetterCause.WORKER_LOST, False)
    assert letter.detail
    assert (letter.video_id, letter.owner, letter.message_id, letter.body) == (video_id, "ada", "m", "{}")
    assert store.dead_letter(letter.id) == letter
    assert (store.history(video_id), store.last_event_id(), due(store)) == (before, events, waiting)


def test_a_message_of_a_job_that_waits_unclaimed_is_a_loss_and_the_job_gets_a_new_message(store: Store) -> None:
    video_id = sent_and_waiting(store)
    last = store.last_event_id()
    letter = received(store, video_id, generation=None)
    assert (letter.resolution, letter.resolved_by, letter.failures, letter.lost) == (Resolution.REQUEUED, None, 0, 1)
    assert letter.resolved_at == letter.created_at
    assert due(store) == [video_id]
    job = record_of(store, video_id).job
    assert (job.status, job.counters.lost) == (Status.UPLOADED, 1)
    [event] = store.events_after(last)
    assert (event.kind, event.version) == (EventKind.ATTEMPT, job.version)
    assert store.open_dead_letters() == {}


def test_a_message_that_comes_before_its_relay_has_removed_the_entry_is_sent_again(store: Store) -> None:
    video_id = uploaded(store)
    [entry] = store.hold_outbox(limit=1, hold=SECOND)
    assert received(store, video_id).resolution is Resolution.STALE
    store.mark_sent(entry, broker="queue")
    assert due(store) == [video_id]
    assert record_of(store, video_id).job.counters.lost == 0


def test_a_message_that_was_handled_before_changes_nothing(store: Store) -> None:
    video_id = sent_and_waiting(store)
    received(store, video_id)
    sent(store, video_id)
    assert receive(store, video_id) is None
    assert record_of(store, video_id).job.counters.lost == 1
    assert due(store) == []


def test_an_attempt_whose_lease_has_expired_is_lost_once_with_its_message(backend: Backend) -> None:
    store = backend.store
    lease = processing(store)
    backend.pass_time(LEASE + SECOND)
    assert received(store, lease.video_id).resolution is Resolution.REQUEUED
    [attempt] = store.history(lease.video_id).attempts
    assert attempt.ending is Ending.LOST
    assert record_of(store, lease.video_id).job.counters.lost == 1
    assert store.end_expired_leases(limit=10, policy=POLICY) == 0
    assert due(store) == [lease.video_id]


@pytest.mark.parametrize("status", [Status.UPLOADED, Status.PROCESSING])
def test_at_the_limit_of_losses_the_message_and_the_job_make_one_open_dead_letter(
    backend: Backend, status: Status
) -> None:
    store = backend.store
    if status is Status.PROCESSING:
        lease = processing(store)
        assert interrupt(store, lease)
        video_id = lease.video_id
    else:
        # The failed attempt belongs to an earlier generation, so its worker does not appear in the dead letter.
        video_id = failed(store)
        store.retry(video_id, by="ada")
    letters = []
    for number in range(POLICY.max_lost):
        backend.pass_time(POLICY.backoff_cap)
        sent(store, video_id)
        letters.append(received(store, video_id, message_id=f"m{number}", generation=None))
    letter = letters[-1]
    assert record_of(store, video_id).job.status is Status.DEAD_LETTERED
    assert letter.open
    assert (letter.cause, letter.message_id, letter.body) == (DeadLetterCause.WORKER_LOST, "m4", "{}")
    assert (letter.code, letter.detail, letter.lost) == (WORKER_LOST.code, WORKER_LOST.message, POLICY.max_lost)
    assert letter.worker == ("worker-1" if status is Status.PROCESSING else None)
    assert store.dead_letters(DeadLetterFilter()) == [letter]
    assert store.history(video_id).dead_letter == letter
    assert due(store) == []
    assert store.redrive_dead_letter(letter.id, by="ada").job.counters.lost == 0


def test_a_stale_message_does_not_hide_why_its_job_ended(store: Store) -> None:
    video_id = dead_lettered(store)
    [ended] = store.dead_letters(ALL)
    received(store, video_id)
    assert store.history(video_id).dead_letter == ended
    store.redrive_dead_letter(ended.id, by="eve")
    resolutions = [letter.resolution for letter in store.dead_letters(ALL)]
    assert resolutions == [Resolution.STALE, Resolution.REDRIVEN]


def test_a_job_that_a_clock_that_was_set_back_keeps_waiting_gets_a_new_message(backend: Backend) -> None:
    store = backend.store
    lease = processing(store)
    assert fail(store, lease)
    video_id = lease.video_id
    backend.pass_time(POLICY.backoff_cap)
    sent(store, video_id)
    backend.pass_time(-POLICY.backoff_cap)
    assert received(store, video_id).resolution is Resolution.STALE
    backend.pass_time(POLICY.backoff_cap)
    assert due(store) == [video_id]


def test_a_message_of_an_unknown_video_is_left_to_its_caller(store: Store) -> None:
    assert receive(store, "unknown") == Unknown()
    assert store.dead_letters(ALL) == []


def test_a_message_whose_job_cannot_be_read_stays(backend: Backend) -> None:
    video_id = sent_and_waiting(backend.store)
    backend.spoil(video_id)
    with pytest.raises(Unreadable):
        receive(backend.store, video_id)
    assert backend.store.dead_letters(ALL) == []


def test_a_message_whose_job_is_locked_for_too_long_stays(postgresql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LOCK_WAIT", SECOND / 10)
    impatient = postgresql.another()
    video_id = sent_and_waiting(postgresql.store)
    with postgresql.database.engine.begin() as holder:
        lock(holder, video_id)
        with pytest.raises(Busy):
            receive(impatient, video_id)
    assert impatient.dead_letters(ALL) == []
    assert received(impatient, video_id).resolution is Resolution.REQUEUED


def test_a_moved_body_is_kept_whole_up_to_the_largest_message(store: Store) -> None:
    video_id = sent_and_waiting(store)
    letter = receive(store, video_id, body="x" + "é" * MAX_BODY_BYTES)
    assert isinstance(letter, DeadLetter)
    stored = store.dead_letter(letter.id)
    assert stored is not None
    assert stored.body == "x" + "é" * (MAX_BODY_BYTES // 2 - 1)
