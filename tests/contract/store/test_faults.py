"""A store whose database is slow or unavailable, or disappears at the moment of a commit."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import event, func, make_url, select, text, update
from sqlalchemy.engine.interfaces import DBAPIConnection

from anb_core.adapters.database import SqlStore, engine, feed, upgrade
from anb_core.adapters.database.engine import Database
from anb_core.adapters.database.rows import lock
from anb_core.adapters.database.tables import jobs
from anb_core.adapters.system import new_id
from anb_core.domain.errors import Busy, Conflict, Full, Unavailable
from anb_core.domain.model import EventKind, Record
from anb_core.domain.status import Status
from anb_core.ports.store import Claimed, Store
from anb_core.testing.store import InMemoryStore
from tests.support.given import (
    LEASE,
    MINUTE,
    POLICY,
    SECOND,
    SOURCE,
    claim,
    due,
    fail,
    interrupt,
    new_video,
    processing,
    record_of,
    result,
    uploaded,
    uploading,
)
from tests.support.proxy import Cut, Proxy, proxied
from tests.support.stores import Backend, Sql
from tests.support.waiting import eventually


@pytest.fixture
def proxy(postgresql: Sql) -> Iterator[Proxy]:
    url = make_url(postgresql.url)
    assert url.host is not None
    assert url.port is not None
    with proxied(url.host, url.port) as proxy:
        yield proxy


@pytest.fixture
def far(postgresql: Sql, proxy: Proxy) -> Iterator[SqlStore]:
    """A store that reaches the test's PostgreSQL database through the proxy."""
    url = make_url(postgresql.url).set(port=proxy.port)
    store = SqlStore(url.render_as_string(hide_password=False))
    store.ping()
    yield store
    store.close()


COMMIT = b"COMMIT\0"
"""The bytes of a COMMIT on the network. Without the NUL, these bytes would also match READ COMMITTED."""

BOTH = pytest.mark.parametrize("when", list(Cut))


@BOTH
def test_an_upload_is_complete_once_though_the_answer_to_its_commit_was_lost(
    postgresql: Sql, proxy: Proxy, far: SqlStore, when: Cut
) -> None:
    video_id = uploading(postgresql.store).video.id
    proxy.cut(when, COMMIT)
    record = far.complete_upload(video_id, SOURCE)
    assert proxy.cuts == 1
    assert record == postgresql.store.get(video_id)
    assert record.job.status is Status.UPLOADED
    assert due(postgresql.store) == [video_id]
    assert len(postgresql.store.events_after(0)) == 2


@BOTH
def test_a_result_is_current_once_though_the_answer_to_its_commit_was_lost(
    postgresql: Sql, proxy: Proxy, far: SqlStore, when: Cut
) -> None:
    lease = processing(postgresql.store)
    proxy.cut(when, COMMIT)
    assert far.publish(lease, result(lease))
    assert proxy.cuts == 1
    assert record_of(postgresql.store, lease.video_id).job.result == result(lease)
    assert [event.status for event in postgresql.store.events_after(0)].count(Status.PROCESSED) == 1
    assert postgresql.deletions() == []


@BOTH
def test_a_failure_counts_once_though_the_answer_to_its_commit_was_lost(
    postgresql: Sql, proxy: Proxy, far: SqlStore, when: Cut
) -> None:
    lease = processing(postgresql.store)
    proxy.cut(when, COMMIT)
    assert fail(far, lease)
    assert proxy.cuts == 1
    assert record_of(postgresql.store, lease.video_id).job.counters.failures == 1
    assert len(postgresql.deletions()) == 2


@BOTH
def test_a_claim_is_held_though_the_answer_to_its_commit_was_lost(
    postgresql: Sql, proxy: Proxy, far: SqlStore, when: Cut
) -> None:
    video_id = uploaded(postgresql.store)
    proxy.cut(when, COMMIT)
    claimed = far.claim(video_id, generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY)
    assert proxy.cuts == 1
    assert isinstance(claimed, Claimed)
    assert claimed.record == postgresql.store.get(video_id)
    assert len(postgresql.store.history(video_id)[1]) == 1
    assert far.publish(claimed.lease, result(claimed.lease))


@BOTH
def test_an_upload_begins_once_though_the_answer_to_its_commit_was_lost(
    postgresql: Sql, proxy: Proxy, far: SqlStore, when: Cut
) -> None:
    proxy.cut(when, COMMIT)
    record = far.begin_upload(new_video(), lifetime=MINUTE)
    assert proxy.cuts == 1
    assert isinstance(record, Record)
    assert record == postgresql.store.get(record.video.id)
    assert len(postgresql.store.events_after(0)) == 1


def test_what_cannot_be_repeated_says_that_the_database_is_away(postgresql: Sql, proxy: Proxy, far: SqlStore) -> None:
    video_id = uploaded(postgresql.store)
    proxy.cut(Cut.AFTER, COMMIT)
    with pytest.raises(Unavailable):
        far.cancel(video_id)
    # The second call fails with a conflict, because the first call cancelled the video before the connection broke.
    with pytest.raises(Conflict):
        far.cancel(video_id)


def test_a_repetition_acts_on_what_happened_in_between(postgresql: Sql, proxy: Proxy, far: SqlStore) -> None:
    """The first call commits, but its answer is lost. Another worker claims the job before the call is repeated."""
    lease = processing(postgresql.store)
    proxy.cut(Cut.AFTER, COMMIT)
    assert interrupt(far, lease)
    other = claim(postgresql.store, lease.video_id)
    assert interrupt(far, lease)
    job = record_of(postgresql.store, lease.video_id).job
    assert (job.lease_owner, job.counters.interruptions) == (other.attempt_id, 1)


def test_a_repetition_waits_for_the_commit_whose_answer_was_lost(postgresql: Sql) -> None:
    """The connection breaks while the server commits. The transaction of the first try still holds its row lock."""
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
    """A claim that waits for a row lock reads the clock after the wait, not before."""
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
        # The waiting writer must not have an event id yet. Otherwise the writer's event would come before this event.
        feed.append_event(slow, record, EventKind.ATTEMPT)
        assert store.events_after(last) == []
    thread.join(timeout=10)
    kinds = [event.kind for event in store.events_after(last)]
    assert kinds == [EventKind.ATTEMPT, EventKind.STATUS]


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
        # In SQLite a reader does not wait for a writer.
        assert impatient.get(lease.video_id) is not None
    assert "locked" in unavailable.value.message
    assert impatient.renew(lease, duration=LEASE)


def test_a_full_disk_under_sqlite_is_told_and_nothing_is_promised(sqlite: Sql) -> None:
    video_id = uploading(sqlite.store).video.id
    with closing(SqlStore(sqlite.url)) as full:

        def fill(connection: DBAPIConnection, _: object) -> None:
            cursor = connection.cursor()
            # SQLite raises the limit of one page to the current number of pages, so the database cannot grow.
            cursor.execute("PRAGMA max_page_count = 1")
            cursor.close()

        event.listen(full.database.engine, "connect", fill)
        title = "T" * 200_000
        with pytest.raises(Full, match=r"disk of the database sqlite:.* is full"):
            full.begin_upload(replace(new_video(), title=title), lifetime=MINUTE)
        assert full.get(video_id) is not None


def test_a_full_disk_under_postgresql_is_told(postgresql: Sql) -> None:
    with pytest.raises(Full), postgresql.database.transaction() as connection:
        connection.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$")


def test_a_statement_that_takes_too_long_is_ended_by_the_server(
    postgresql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ANSWER", SECOND / 10)
    impatient = Database(postgresql.url)
    with pytest.raises(Unavailable, match="statement timeout"), impatient.transaction() as connection:
        connection.execute(text("SELECT pg_sleep(30)"))
    impatient.close()


def test_every_timeout_is_under_a_third_of_the_heartbeat(postgresql: Sql) -> None:
    limit = 20_000 // 3
    with postgresql.database.reading() as connection:
        for setting in ("statement_timeout", "lock_timeout"):
            shown = connection.execute(
                text("SELECT setting::int FROM pg_settings WHERE name = :name"), {"name": setting}
            ).scalar_one()
            assert 0 < shown < limit
        assert connection.scalar(text("SHOW transaction_isolation")) == "read committed"
        driver = connection.connection.driver_connection
        assert driver is not None
        with socket.fromfd(driver.fileno(), socket.AF_INET, socket.SOCK_STREAM) as peer:
            assert 0 < peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) < limit
            assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert timedelta(milliseconds=limit) > engine.CONNECT


def test_sqlite_keeps_what_it_said_was_committed(sqlite: Sql) -> None:
    with sqlite.database.reading() as connection:
        pragmas = {
            name: connection.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


@pytest.mark.parametrize("kind", ["memory", "postgresql"])
def test_a_database_that_is_away_is_told_as_unavailable(kind: str) -> None:
    if kind == "memory":
        away: Store = (fake := InMemoryStore())
        fake.fault = Unavailable("database", "The database does not answer.")
    else:
        away = SqlStore("postgresql+psycopg://nobody@127.0.0.1:9/none")
    calls: list[Callable[[], object]] = [
        away.ping,
        away.now,
        away.count_by_status,
        lambda: away.complete_upload("v", SOURCE),
        lambda: away.end_expired_leases(limit=1, policy=POLICY),
        lambda: away.exclusively("sweep", lifetime=MINUTE).__enter__(),
    ]
    for call in calls:
        with pytest.raises(Unavailable) as unavailable:
            call()
        assert unavailable.value.part == "database"


def test_a_database_that_is_not_there_is_named_without_its_password(postgresql: Sql) -> None:
    server = make_url(postgresql.url)
    url = server.set(password="hunter2", database="nowhere")
    wrong = SqlStore(url.render_as_string(hide_password=False))
    with pytest.raises(Unavailable) as unavailable:
        wrong.ping()
    message = unavailable.value.message
    assert message.startswith(f"The database postgresql://127.0.0.1:{server.port}/nowhere is not available: ")
    assert message.endswith('FATAL:  database "nowhere" does not exist')
    wrong.close()


def test_a_user_without_the_right_to_the_tables_is_told_so(postgresql: Sql) -> None:
    name = f"guest_{uuid4().hex}"
    with postgresql.database.transaction() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN")
    url = make_url(postgresql.url).set(username=name).render_as_string()
    guest = SqlStore(url)
    try:
        with pytest.raises(Unavailable, match="is not available: permission denied for table"):
            guest.ping()
        with pytest.raises(Unavailable, match="is not available: permission denied for"):
            upgrade(url)
    finally:
        guest.close()
        with postgresql.database.transaction() as connection:
            connection.exec_driver_sql(f"DROP ROLE {name}")


def test_connections_that_the_server_ended_are_replaced_unnoticed(postgresql: Sql) -> None:
    store = postgresql.another()
    store.ping()
    _end_all_others(postgresql)
    assert store.get("unknown") is None


def test_what_is_exclusive_is_free_when_its_process_hangs(postgresql: Sql) -> None:
    with postgresql.store.exclusively("sweep", lifetime=SECOND / 10) as ours:
        assert ours

        def free() -> bool:
            with postgresql.another().exclusively("sweep", lifetime=MINUTE) as free:
                return free

        assert eventually(free)


def test_what_is_exclusive_stays_so_when_the_connection_it_was_taken_on_is_gone(postgresql: Sql) -> None:
    with postgresql.another().exclusively("sweep", lifetime=MINUTE) as ours:
        assert ours
        _end_all_others(postgresql)
        with postgresql.store.exclusively("sweep", lifetime=MINUTE) as theirs:
            assert not theirs
    with postgresql.store.exclusively("sweep", lifetime=MINUTE) as free:
        assert free


@BOTH
def test_what_is_exclusive_is_had_though_the_answer_to_its_commit_was_lost(
    postgresql: Sql, proxy: Proxy, far: SqlStore, when: Cut
) -> None:
    proxy.cut(when, COMMIT)
    with far.exclusively("sweep", lifetime=MINUTE) as ours:
        assert ours
        assert proxy.cuts == 1
        with postgresql.store.exclusively("sweep", lifetime=MINUTE) as theirs:
            assert not theirs


def test_a_lock_row_that_expired_is_anothers_and_stays_so(backend: Backend) -> None:
    other = backend.another()
    with backend.store.exclusively("sweep", lifetime=MINUTE) as slow:
        assert slow
        backend.pass_time(2 * MINUTE)
        late = other.exclusively("sweep", lifetime=MINUTE)
        assert late.__enter__()
    with backend.store.exclusively("sweep", lifetime=MINUTE) as again:
        assert not again
    late.__exit__(None, None, None)


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


def _end_all_others(backend: Sql) -> None:
    with backend.database.transaction() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
