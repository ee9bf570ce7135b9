"""Tests that every frequent query uses an index, so that large tables do not make the query slow."""

# ruff: noqa: S608 - all statements are built from constants

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from anb_core.adapters.system import new_id
from anb_core.domain.dead_letters import DeadLetterFilter, DeadLetterPage
from anb_core.domain.errors import LimitReached, NotFound
from anb_core.domain.limits import Cap, Limits
from anb_core.domain.model import Counters, Lease
from anb_core.domain.status import Status
from anb_core.ports.store import Page, QueueLimit
from tests.support.given import DAY, HOUR, LEASE, MINUTE, POLICY, SOURCE, fail, new_video, processed
from tests.support.stores import Sql

MANY = 3000

LIMITS = Limits(Cap(unfinished=MANY), Cap(unfinished=1))

SMALL = {"api_tokens", "feed_cursors", "locks", "usage", "owners", "next", "each"}
"""Names of tables and subqueries with only a few rows, which queries may scan without an index.
`usage` has few rows per owner."""

READ_IN_ORDER = {
    "ix_videos_created_at",
    "ix_attempts_started_at",
    "ix_outbox_owner_send_after",
    "ix_jobs_waiting",
    "ix_jobs_lease_expires_at",
    "pk_job_events",
    "ix_object_deletions_video_id",
    "ix_dead_letters_created_at",
    "ix_dead_letters_open",
}
"""Indexes that a query may scan from one end without a key, if it reads only a limited number of rows.

For example, the list of the newest videos scans an index from its end.
The purge of deleted videos scans ix_object_deletions_video_id once, instead of looking up each video."""


@pytest.fixture
def full(sql: Sql) -> Sql:
    """A database with thousands of rows in each table, as after months of use, and with current planner statistics."""
    processed(sql.store)
    with sql.database.transaction() as connection:
        for statement in _multiplied():
            connection.execute(text(statement), {"many": MANY})
    with sql.database.transaction() as connection:
        connection.exec_driver_sql("ANALYZE")
    return sql


def _multiplied() -> Iterator[str]:
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :many) "
    video = "owner, title, edit, source_key, owned, file_name, source_size, created_at"
    yield (
        f"INSERT INTO videos (id, {video}, deleted_at, purge_after) {numbers}"
        "SELECT 'v' || i, 'owner' || (i % 50), title, edit, source_key || i, owned, file_name, source_size,"
        " created_at - i, CASE WHEN i % 100 = 0 THEN created_at END,"
        " CASE WHEN i % 100 = 0 THEN created_at + i * 1000 END"
        " FROM (SELECT * FROM videos LIMIT 1) AS first, n"
    )
    job = "version, failures, lost, interruptions, attempts, updated_at, created_at"
    yield (
        f"INSERT INTO jobs (id, video_id, status, generation, fence, progress, {job}, lease_owner, lease_expires_at,"
        f" upload_expires_at, enqueued_at, enqueued_to, result) {numbers}"
        "SELECT 'j' || i, 'v' || i,"
        " CASE WHEN i % 90 = 0 THEN 'uploading' WHEN i % 80 = 0 THEN 'processing' WHEN i % 70 = 0 THEN 'uploaded'"
        " WHEN i % 60 = 0 THEN 'failed' ELSE 'processed' END, 1, 1, 0.0,"
        f" {job}, CASE WHEN i % 160 = 0 AND i % 90 > 0 THEN 'a' || i END,"
        " CASE WHEN i % 160 = 0 AND i % 90 > 0 THEN created_at + i * 1000 END,"
        " CASE WHEN i % 90 = 0 THEN created_at + i * 1000 END, created_at, 'queue',"
        " CASE WHEN i % 90 > 0 AND i % 80 > 0 AND i % 70 > 0 AND i % 60 > 0 THEN result END"
        " FROM (SELECT * FROM jobs LIMIT 1) AS first, n"
    )
    yield (
        f"INSERT INTO attempts (id, job_id, generation, fence, worker, result_key, started_at) {numbers}"
        "SELECT 'a' || i, 'j' || i, 1, 1, worker, result_key, started_at"
        " FROM (SELECT * FROM attempts LIMIT 1) AS first, n"
    )
    event_ = "kind, job_id, owner, version, status, progress"
    yield (
        f"INSERT INTO job_events (video_id, at, {event_}) {numbers}"
        f"SELECT 'v' || i, at + i * 1000, {event_} FROM (SELECT * FROM job_events LIMIT 1) AS first, n"
    )
    yield (
        f"INSERT INTO object_deletions (video_id, key, reason, delete_after) {numbers}"
        "SELECT 'v' || i, 'k' || i, 'tombstone', created_at + i * 60000"
        " FROM (SELECT created_at FROM jobs LIMIT 1) AS first, n"
    )
    yield (
        f"INSERT INTO idempotency_keys (owner, key, video_id, expires_at) {numbers}"
        "SELECT 'owner' || (i % 50), 'key' || i, 'v' || i, created_at + i * 60000"
        " FROM (SELECT created_at FROM jobs LIMIT 1) AS first, n"
    )
    yield (
        f"INSERT INTO outbox (job_id, owner, send_after, tries, created_at) {numbers}"
        "SELECT 'j' || i, 'owner' || i % 50, created_at + i * 60000, 0, created_at"
        " FROM (SELECT created_at FROM jobs LIMIT 1) AS first, n"
    )
    yield (
        f"INSERT INTO dead_letters (cause, detail, video_id, generation, message_id, body, created_at,"
        f" resolution, resolved_at) {numbers}"
        "SELECT 'failures', '', 'v' || i, 1, 'm' || i, '{}', created_at + i * 60000,"
        " CASE WHEN i % 60 > 0 THEN 'redriven' END, CASE WHEN i % 60 > 0 THEN created_at + i * 60000 END"
        " FROM (SELECT created_at FROM jobs LIMIT 1) AS first, n"
    )


@contextmanager
def explained(sql: Sql) -> Iterator[list[str]]:
    """Run EXPLAIN for every statement of the `with` block. Yields a list to which all full table scans are added."""
    scans: list[str] = []
    engine = sql.store.database.engine  # type: ignore[attr-defined]
    find = _postgresql_scans if engine.dialect.name == "postgresql" else _sqlite_scans

    def explain(_: Connection, cursor: Any, statement: str, parameters: Any, *__: object) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH", "UPDATE", "DELETE", "INSERT")):
            one = parameters[0] if isinstance(parameters, list) else parameters
            scans.extend(f"{scan} in {statement}" for scan in find(cursor, statement, one))

    event.listen(engine, "before_cursor_execute", explain)
    try:
        yield scans
    finally:
        event.remove(engine, "before_cursor_execute", explain)


def _postgresql_scans(cursor: Any, statement: str, parameters: Any) -> Iterator[str]:
    # With only thousands of rows, the planner sometimes scans a full table although an index exists.
    # After `enable_seqscan = off`, the planner scans a full table only if no index fits.
    cursor.execute("SET LOCAL enable_seqscan = off")
    cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
    nodes = [cursor.fetchone()[0][0]["Plan"]]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        table = node.get("Relation Name")
        whole = node["Node Type"] == "Seq Scan" or (
            node["Node Type"] in {"Index Scan", "Index Only Scan"} and "Index Cond" not in node
        )
        if whole and table not in SMALL and node.get("Index Name") not in READ_IN_ORDER:
            yield f"{node['Node Type']} of {table}"


def _sqlite_scans(cursor: Any, statement: str, parameters: Any) -> Iterator[str]:
    cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
    for line in [row[3] for row in cursor.fetchall()]:
        words = line.split()
        if words[0] == "SCAN" and line != "SCAN CONSTANT ROW" and not (SMALL | READ_IN_ORDER) & set(words):
            yield line


def test_nothing_that_runs_all_day_reads_a_table_from_end_to_end(full: Sql) -> None:
    store = full.store
    lease = Lease("v160", "j160", "a160", 1, 1, "worker", "k", Counters())
    page = Page(store.now() - HOUR, "v5")
    with explained(full) as scans:
        store.get("v1")
        store.histories(["v1", "v2", "v160"])
        store.surroundings("v80")
        for read in (store.count_by_queue, store.longest_wait, store.last_event_id, store.open_dead_letters):
            read()
        for owner in ("owner7", None):
            store.listing(owner=owner)
            store.listing(owner=owner, after=page)
        store.listing(owner=None, statuses=[Status.FAILED])
        store.renew(lease, duration=LEASE)
        store.report_progress(lease, 0.5)
        fail(store, lease)
        store.claim("v80", generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY)
        store.cancel("v70")
        store.retry("v60", by="ada")
        store.delete("v1", by="ada", grace=DAY)
        with pytest.raises(NotFound):
            store.complete_upload("none", SOURCE)
        with pytest.raises(LimitReached):
            store.check_limits(LIMITS, owner="owner20", idempotency_key="none")
        store.begin_upload(new_video(), lifetime=MINUTE, limits=LIMITS)
        store.complete_upload("v90", SOURCE)
        store.renew_upload("v180", lifetime=MINUTE)
        store.known_sources(["k1", "k2"])
        for entry in store.hold_outbox(limit=10, hold=MINUTE):
            store.mark_sent(entry, broker="queue")
            store.hold_outbox(limit=10, hold=MINUTE, queue_limit=QueueLimit("queue", MANY))
            store.mark_unsent(entry, delay=MINUTE)
        store.end_expired_leases(limit=10, policy=POLICY)
        store.end_expired_uploads(limit=10)
        store.requeue_unclaimed(enqueued_before=MINUTE, limit=10)
        store.requeue_unclaimed(not_on=["queue"], limit=10)
        store.requeue_overdue(slack=MINUTE, limit=10)
        store.deletion_done(store.hold_deletions(limit=10, hold=MINUTE))
        store.purge(events_before=DAY, dead_letters_before=DAY, limit=10)
        store.events_after(MANY - 10, limit=10)
        store.events_after(0, video_id="v1")
        opened = DeadLetterPage(store.now(), MANY)
        for wanted in (DeadLetterFilter(), DeadLetterFilter(state="all"), DeadLetterFilter(since=store.now())):
            store.dead_letters(wanted)
            store.dead_letters(wanted, after=opened)
        store.count_dead_letters(DeadLetterFilter(), after=opened)
        store.dead_letter(7)
        store.receive_dead_letter(message_id="new", body="{}", video_id="v160", generation=1, policy=POLICY)
        ids = {one.video_id: one.id for one in store.dead_letters(DeadLetterFilter())}
        store.redrive_dead_letter(ids["v120"], by="ada")
        store.discard_dead_letter(ids["v180"], by="ada", reason="")
        store.mark_announced([one.id for one in store.unannounced_dead_letters(limit=10)])
        store.unannounced_dead_letters(limit=10, quiet=MINUTE)
    assert scans == []
