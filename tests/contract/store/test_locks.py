"""Tests of a store that waits for a lock of another transaction."""

import threading

import pytest
from sqlalchemy import func, select, text, update

from anb_core.adapters.database import engine, feed
from anb_core.adapters.database.rows import lock
from anb_core.adapters.database.tables import dead_letters, jobs
from anb_core.domain.dead_letters import DeadLetterFilter
from anb_core.domain.errors import Busy, Conflict
from anb_core.domain.model import DeadLetterCause, EventKind
from tests.support.given import LEASE, SECOND, interrupt, processing, record_of, uploaded
from tests.support.stores import Sql
from tests.support.waiting import eventually


def test_a_repetition_waits_for_the_commit_whose_answer_was_lost(postgresql: Sql) -> None:
    """The store tries a transaction twice. The connection of the first try broke, but the database still runs its
    transaction with the row lock. So the second try waits for the lock.
    """
    lease = processing(postgresql.store)
    answers: list[bool] = []
    with postgresql.database.engine.begin() as first_try:
        locked = lock(first_try, lease.video_id)
        assert locked is not None
        thread = threading.Thread(target=lambda: answers.append(interrupt(postgresql.store, lease)))
        thread.start()
        eventually(lambda: _waiting_for_a_lock(postgresql))
        first_try.execute(update(jobs).where(jobs.c.id == lease.job_id).values(fence=jobs.c.fence + 1))
    thread.join(timeout=10)
    assert answers == [False]


def test_the_clock_is_read_after_the_wait_for_the_row(postgresql: Sql) -> None:
    """A claim that waits for a row lock reads the clock only after the wait."""
    lease = processing(postgresql.store)
    read = []

    def lock_and_read() -> None:
        with postgresql.database.transaction() as connection:
            locked = lock(connection, lease.video_id)
            assert locked is not None
            read.append(locked.now)

    with postgresql.database.engine.begin() as holder:
        lock(holder, lease.video_id)
        thread = threading.Thread(target=lock_and_read)
        thread.start()
        eventually(lambda: _waiting_for_a_lock(postgresql))
        released = postgresql.store.now()
    thread.join(timeout=10)
    assert read[0] >= released


def test_the_next_writer_of_the_feed_waits_for_the_commit_of_the_one_before(postgresql: Sql) -> None:
    store = postgresql.store
    video_id = uploaded(store)
    record = record_of(store, video_id)
    last = store.last_event_id()
    with postgresql.database.transaction() as slow:
        slow.execute(select(func.pg_advisory_xact_lock(feed.FEED_LOCK)))
        thread = threading.Thread(target=store.cancel, args=(video_id,))
        thread.start()
        eventually(lambda: _waiting_for_a_lock(postgresql))
        # The thread waits for the lock and must not have an event id yet: the event of `slow` is the next in the feed.
        feed.append_event(slow, record, EventKind.ATTEMPT)
        assert store.events_after(last) == []
    thread.join(timeout=10)
    kinds = [event.kind for event in store.events_after(last)]
    assert kinds == [EventKind.ATTEMPT, EventKind.STATUS]


def test_a_discard_that_waits_for_another_discard_is_refused(postgresql: Sql) -> None:
    store = postgresql.store
    store.record_dead_letter(cause=DeadLetterCause.UNREADABLE, message_id="m", body="?", detail="not JSON")
    [letter] = store.dead_letters(DeadLetterFilter())
    refusals: list[Conflict] = []

    def discard() -> None:
        with pytest.raises(Conflict) as refused:
            store.discard_dead_letter(letter.id, by="eve", reason="Me too.")
        refusals.append(refused.value)

    with postgresql.database.transaction() as first:
        first.execute(update(dead_letters).values(resolution="discarded", resolved_by="ada"))
        thread = threading.Thread(target=discard)
        thread.start()
        eventually(lambda: _waiting_for_a_lock(postgresql))
    thread.join(timeout=10)
    [refusal] = refusals
    assert (refusal.code, "by ada" in refusal.message) == ("dead_letter_resolved", True)


def test_a_row_that_somebody_holds_too_long_is_told_as_busy(postgresql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LOCK_WAIT", SECOND / 10)
    impatient = postgresql.another()
    lease = processing(postgresql.store)
    with postgresql.database.engine.begin() as holder:
        lock(holder, lease.video_id)
        with pytest.raises(Busy) as unavailable:
            impatient.renew(lease, duration=LEASE)
    assert unavailable.value.part == "database"
    assert "lock timeout" in unavailable.value.message
    assert impatient.renew(lease, duration=LEASE)


def test_a_sqlite_writer_that_waits_too_long_is_told_as_busy(sqlite: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SQLITE_WAIT", SECOND / 10)
    impatient = sqlite.another()
    lease = processing(sqlite.store)
    with sqlite.database.transaction():
        with pytest.raises(Busy) as unavailable:
            impatient.renew(lease, duration=LEASE)
        # Another transaction still has the write lock, but a read succeeds: in SQLite, reads need no write lock.
        assert impatient.get(lease.video_id) is not None
    assert "locked" in unavailable.value.message
    assert impatient.renew(lease, duration=LEASE)


def _waiting_for_a_lock(backend: Sql) -> bool:
    with backend.database.reading() as connection:
        return bool(
            connection.scalar(
                text(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE wait_event_type = 'Lock' AND datname = current_database()"
                )
            )
        )
