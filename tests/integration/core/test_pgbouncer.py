"""Tests of several processes that share a few PostgreSQL connections through PgBouncer in transaction mode."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import timedelta
from random import Random

import psycopg
import pytest
from sqlalchemy import make_url

from anb_core.adapters.database import SqlStore, upgrade
from anb_core.adapters.system import new_id
from anb_core.domain.retry import RetryPolicy, plan_failure
from anb_core.domain.status import Status
from anb_core.ports.store import Claimed
from tests.support.given import LEASE, MINUTE, PROBLEM, SECOND, new_video, record_of, result, uploaded
from tests.support.pgbouncer import pooled
from tests.support.waiting import eventually

pytestmark = pytest.mark.debian

CLIENTS = 6
CONNECTIONS = 3
VIDEOS = 8
"""Number of videos that each client uploads."""

POLICY = RetryPolicy(max_failures=9, backoff_base=timedelta(0), backoff_cap=timedelta(0))


@pytest.fixture
def pooler(postgres_url: str) -> Iterator[str]:
    with pooled(postgres_url, connections=CONNECTIONS) as url:
        upgrade(url)
        yield url


@pytest.fixture
def clients(pooler: str) -> Iterator[list[SqlStore]]:
    """The stores of several simulated processes. Each store has its own connection pool."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(SqlStore(pooler))) for _ in range(CLIENTS)]


def life(store: SqlStore, client: int) -> list[tuple[str, str, int]]:
    """Upload and process videos, with random numbers of failures. Returns each video's owner, id and failures."""
    seeded, done = Random(client), []
    for number in range(VIDEOS):
        owner = f"owner-{client}-{number}"
        video_id = uploaded(store, owner=owner)
        failures = seeded.randrange(3)
        for turn in range(failures + 1):
            for entry in store.hold_outbox(limit=2, hold=SECOND):
                store.mark_sent(entry, broker="queue")
            claimed = store.claim(
                video_id, generation=1, attempt_id=new_id(), worker=f"w{client}", lease=LEASE, policy=POLICY
            )
            assert isinstance(claimed, Claimed), claimed
            assert claimed.record.video.owner == owner
            lease = claimed.lease
            assert store.renew(lease, duration=LEASE)
            assert store.report_progress(lease, seeded.random())
            assert [record.video.id for record in store.listing(owner=owner)] == [video_id]
            if turn < failures:
                assert store.settle(lease, plan_failure(lease.counters, PROBLEM, POLICY, jitter=0.0))
            else:
                assert store.publish(lease, result(lease))
        done.append((owner, video_id, failures))
    return done


def test_clients_that_share_connections_never_mix_up_their_data(clients: list[SqlStore]) -> None:
    with ThreadPoolExecutor(CLIENTS) as threads:
        lives = [threads.submit(life, store, number) for number, store in enumerate(clients)]
        done = [video for one in lives for video in one.result(timeout=120)]

    store = clients[0]
    for owner, video_id, failures in done:
        history = store.history(video_id)
        record, attempts = history.record, history.attempts
        assert record is not None
        assert (record.video.owner, record.job.status) == (owner, Status.PROCESSED)
        assert record.job.counters.failures == failures
        assert [attempt.fence for attempt in attempts] == list(range(1, failures + 2))
    assert store.count_by_status() == {Status.PROCESSED: CLIENTS * VIDEOS}
    versions: dict[str, int] = {}
    for event in store.events_after(0, limit=100_000):
        assert event.version > versions.get(event.video_id, 0)
        versions[event.video_id] = event.version
    assert len(versions) == CLIENTS * VIDEOS


def test_one_client_at_a_time_sweeps(clients: list[SqlStore]) -> None:
    leave = threading.Barrier(CLIENTS)

    def enter(store: SqlStore) -> bool:
        with store.exclusively("sweep", lifetime=MINUTE) as ours:
            # While one client holds the lock of the sweep, every client can still run a transaction.
            assert store.get("unknown") is None
            leave.wait(timeout=30)
            return ours

    for _ in range(5):
        with ThreadPoolExecutor(CLIENTS) as threads:
            assert sum(threads.map(enter, clients)) == 1


def test_no_setting_statement_or_lock_of_ours_stays_on_a_connection_that_another_client_gets(
    clients: list[SqlStore], pooler: str, postgres_url: str
) -> None:
    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(life, clients, range(CLIENTS)))
    stranger = make_url(pooler).set(drivername="postgresql").render_as_string()
    with ExitStack() as stack:
        # Keep several transactions open at the same time, so that the transactions use every server connection.
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(psycopg.connect(stranger, prepare_threshold=None))
            for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
                assert connection.execute(f"SHOW {setting}".encode()).fetchone() == ("0",)
            assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
    direct = make_url(postgres_url).set(drivername="postgresql").render_as_string()
    with psycopg.connect(direct) as connection:
        held = (
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        assert connection.execute(held).fetchone() == (0,)


def test_a_row_that_is_locked_is_not_waited_for_longer_than_without_a_pooler(
    clients: list[SqlStore], postgres_url: str
) -> None:
    """The store's lock timeout works through PgBouncer, although PgBouncer does not keep session settings."""
    holder, waiter = clients[:2]
    video_id = uploaded(holder)
    direct = make_url(postgres_url).set(drivername="postgresql").render_as_string()
    with psycopg.connect(direct) as other, ThreadPoolExecutor(1) as threads:
        other.execute("SELECT FROM jobs WHERE video_id = %s FOR UPDATE", [video_id])
        cancelled = threads.submit(waiter.cancel, video_id)
        error = cancelled.exception(timeout=20)
        assert "lock timeout" in str(error)
    assert record_of(holder, video_id).job.status is Status.UPLOADED


def test_when_the_server_ends_its_connections_every_client_goes_on(clients: list[SqlStore], postgres_url: str) -> None:
    for store in clients:
        store.ping()
    direct = make_url(postgres_url).set(drivername="postgresql").render_as_string()
    with psycopg.connect(direct) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    for store in clients:
        new = new_video()
        eventually(lambda store=store, new=new: store.begin_upload(new, lifetime=MINUTE), within=15)  # type: ignore[misc]
