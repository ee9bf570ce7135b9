"""Tests that a store reports and skips rows that only a newer version can read. All other rows stay usable."""

from datetime import timedelta

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from anb_core.adapters.system import new_id
from anb_core.domain.dead_letters import DeadLetterFilter
from anb_core.domain.errors import AnbError, Unreadable
from anb_core.domain.model import DeadLetterCause, Scope, Token
from anb_core.domain.status import Status
from anb_core.ports.store import History, Page, Store
from tests.support.given import (
    DAY,
    HOUR,
    LEASE,
    MINUTE,
    POLICY,
    SECOND,
    SOURCE,
    claim,
    dead_lettered,
    due,
    failed,
    interrupt,
    new_video,
    processed,
    processing,
    record_of,
    result,
    sent,
    uploaded,
    uploading,
)
from tests.support.stores import Backend, Sql

ALL = DeadLetterFilter(state="all")


def spoiled(backend: Backend, video_id: str) -> str:
    backend.spoil(video_id)
    return video_id


def test_a_video_that_cannot_be_read_says_so_when_it_is_asked_for(backend: Backend) -> None:
    store = backend.store
    lease = processing(store)
    video_id = spoiled(backend, lease.video_id)
    for ask in (
        lambda: store.get(video_id),
        lambda: store.history(video_id),
        lambda: store.cancel(video_id),
        lambda: store.retry(video_id, by="ada"),
        lambda: store.delete(video_id, by="ada", grace=DAY),
        lambda: store.complete_upload(video_id, SOURCE),
        lambda: store.claim(video_id, generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY),
        lambda: store.report_progress(lease, 0.5),
        lambda: store.publish(lease, result(lease)),
        lambda: interrupt(store, lease),
    ):
        with pytest.raises(Unreadable) as unreadable:
            ask()
        assert unreadable.value.code == "video_unreadable"
        assert video_id in unreadable.value.message
    assert store.renew(lease, duration=LEASE)


def test_a_list_leaves_it_out_and_is_as_long_as_without_it(backend: Backend) -> None:
    store = backend.store
    videos = []
    for _ in range(7):
        videos.append(uploaded(store))
        backend.pass_time(SECOND)
    videos.reverse()
    good = [video_id for number, video_id in enumerate(videos) if number not in {0, 2, 3, 6}]
    for number in (0, 2, 3, 6):
        backend.spoil(videos[number])
    assert ids(store) == good
    assert ids(store, limit=2) == good[:2]
    [first] = store.listing(owner="ada", limit=1)
    after = Page(first.video.created_at, first.video.id)
    assert [record.video.id for record in store.listing(owner="ada", after=after, limit=2)] == good[1:]


def ids(store: Store, limit: int = 50) -> list[str]:
    return [record.video.id for record in store.listing(owner="ada", limit=limit)]


def test_histories_of_the_others_are_told(backend: Backend) -> None:
    store = backend.store
    good, bad = processed(store), spoiled(backend, processed(store))
    histories = store.histories([good, bad, "unknown"])
    assert set(histories) == {good, "unknown"}
    assert len(histories[good].attempts) == 1
    assert histories["unknown"] == History()


@pytest.mark.parametrize("limit", [1, 2, 10])
def test_the_leases_of_the_others_end(backend: Backend, limit: int) -> None:
    store = backend.store
    bad = [claim(store, uploaded(store), lease=30 * SECOND).video_id for _ in range(2)]
    good = [claim(store, uploaded(store)).video_id for _ in range(2)]
    for video_id in bad:
        backend.spoil(video_id)
    backend.pass_time(HOUR)
    ended = sum(store.end_expired_leases(limit=limit, policy=POLICY) for _ in range(2))
    assert ended == 2
    assert all(record_of(store, video_id).job.lease_owner is None for video_id in good)
    assert sorted(due(store)) == sorted(good)
    assert store.end_expired_leases(limit=limit, policy=POLICY) == 0


def test_the_uploads_of_the_others_end(backend: Backend) -> None:
    store = backend.store
    spoiled(backend, uploading(store).video.id)
    backend.pass_time(SECOND)
    good = uploading(store).video.id
    backend.pass_time(HOUR)
    assert store.end_expired_uploads(limit=1) == 1
    assert store.get(good) is None
    assert store.end_expired_uploads(limit=1) == 0


def test_it_is_counted_sent_and_purged_like_the_others(backend: Backend) -> None:
    """Operations that do not read the unreadable value also work on rows of a newer program."""
    store = backend.store
    bad = spoiled(backend, uploaded(store))
    deleted = uploaded(store)
    store.delete(deleted, by="ada", grace=timedelta(0))
    spoiled(backend, deleted)
    assert store.count_by_status() == {Status.UPLOADED: 1}
    sent(store, bad)
    assert {event.video_id for event in store.events_after(0)} == {bad, deleted}
    backend.pass_time(HOUR)
    assert store.requeue_overdue(slack=MINUTE, limit=10) == 1
    assert due(store) == [bad]
    store.deletion_done(store.hold_deletions(limit=10, hold=MINUTE))
    assert store.purge(events_before=DAY, dead_letters_before=DAY, limit=10) == 1


DAMAGES = {
    "an edit with a value that is not allowed yet": ("videos", "edit", '{"trim": {"length": 45}}'),
    "an edit that is no object": ("videos", "edit", "[1]"),
    "an edit that is only a word": ("videos", "edit", '"none"'),
    "a result without its size": ("jobs", "result", '{"key": "k"}'),
    "a result that is a list": ("jobs", "result", "[7]"),
    "receipts that are a number": ("jobs", "answered", "7"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_of_it_cannot_be_read(sql: Sql, damage: str) -> None:
    table, column, value = DAMAGES[damage]
    store = sql.store
    bad, good = processed(store), processed(store)
    where = "id" if table == "videos" else "video_id"
    change(sql, f"UPDATE {table} SET {column} = :value WHERE {where} = :id", value=value, id=bad)  # noqa: S608 - constants
    assert ids(store) == [good]
    for ask in (store.get, store.history, lambda bad: store.delete(bad, by="ada", grace=DAY)):
        with pytest.raises(Unreadable):
            ask(bad)
    assert set(store.histories([good, bad])) == {good}


@pytest.fixture
def lax(sqlite: Sql) -> Sql:
    """A database without check constraints, in which a test can store values that only a newer program knows."""
    with sqlite.database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute("PRAGMA ignore_check_constraints = ON")
    return sqlite


def change(backend: Sql, statement: str, **values: object) -> None:
    with backend.database.transaction() as connection:
        if backend.database.engine.dialect.name == "postgresql":
            statement = statement.replace(":value", "CAST(:value AS JSONB)")
        connection.execute(text(statement), values)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE jobs SET status = 'archived' WHERE video_id = :id",
        "UPDATE videos SET edit = '{\"trim\"' WHERE id = :id",
        "UPDATE jobs SET result = 'nothing' WHERE video_id = :id",
        "UPDATE attempts SET ending = 'postponed' WHERE job_id IN (SELECT id FROM jobs WHERE video_id = :id)",
    ],
)
def test_whatever_only_a_newer_schema_allows(lax: Sql, damage: str) -> None:
    store = lax.store
    bad, good = processed(store), failed(store)
    change(lax, damage, id=bad)
    assert good in ids(store)
    assert set(store.histories([good, bad])) == {good}
    with pytest.raises(Unreadable, match=f"video {bad}"):
        store.history(bad)
    assert store.count_by_status()[Status.FAILED] == 1


def test_a_time_that_no_calendar_has_stops_nobody(sql: Sql) -> None:
    store = sql.store
    lease, good = processing(store), uploaded(store)
    change(sql, "UPDATE jobs SET lease_expires_at = 9000000000000000 WHERE video_id = :id", id=lease.video_id)
    assert set(ids(store)) == {lease.video_id, good}
    assert store.end_expired_leases(limit=10, policy=POLICY) == 0


def test_events_of_an_unknown_kind_are_passed_over(lax: Sql) -> None:
    store = lax.store
    video_id = uploaded(store)
    for _ in range(4):
        store.cancel(video_id)
        store.retry(video_id, by="ada")
    everything = store.events_after(0)
    odd = {everything[number].id for number in (2, 3, 5, 9)}
    for number, event_id in enumerate(odd):
        what = ("kind", "status")[number % 2]
        change(lax, f"UPDATE job_events SET {what} = 'rumour' WHERE id = :id", id=event_id)  # noqa: S608 - constants
    readable = [event.id for event in everything if event.id not in odd]
    read: list[int] = []
    while events := store.events_after(read[-1] if read else 0, video_id=video_id, limit=2):
        read += [event.id for event in events]
        assert len(events) == 2 or read == readable
    assert read == readable


@pytest.mark.parametrize("damage", ["cause = 'boredom'", "resolution = 'forgotten'"])
def test_dead_letters_with_unknown_words_are_passed_over(lax: Sql, damage: str) -> None:
    store = lax.store
    letters = [dead_lettered(store) for _ in range(5)]
    everything = store.dead_letters(ALL)
    odd = [everything[number] for number in (0, 1, 3)]
    for letter in odd:
        change(lax, f"UPDATE dead_letters SET {damage} WHERE id = :id", id=letter.id)  # noqa: S608 - constants
    assert [letter.video_id for letter in store.dead_letters(ALL, limit=2)] == [letters[2], letters[0]]
    assert [letter.video_id for letter in store.unannounced_dead_letters(limit=10)] == [letters[0], letters[2]]
    assert store.open_dead_letters() == {DeadLetterCause.FAILURES: 2}
    assert store.history(letters[4]).dead_letter is None
    for ask in (
        lambda: store.dead_letter(odd[0].id),
        lambda: store.redrive_dead_letter(odd[0].id, by="ada"),
        lambda: store.discard_dead_letter(odd[0].id, by="ada", reason=""),
    ):
        with pytest.raises(Unreadable, match=f"dead letter {odd[0].id}"):
            ask()


def test_the_oldest_dead_letter_does_not_keep_others_from_their_alert_if_its_cause_is_unknown(lax: Sql) -> None:
    store = lax.store
    odd, good = (dead_lettered(store) for _ in range(2))
    change(lax, "UPDATE dead_letters SET cause = 'boredom' WHERE video_id = :id", id=odd)
    assert [letter.video_id for letter in store.unannounced_dead_letters(limit=1)] == [good]


def test_a_token_that_allows_what_is_not_known_allows_nothing(lax: Sql) -> None:
    store = lax.store
    for name in ("good", "bad"):
        store.add_token(Token(name, "ada", Scope.USER, name, store.now()))
    change(lax, "UPDATE api_tokens SET scope = 'billing' WHERE id = :id", id="bad")
    assert [token.id for token in store.list_tokens()] == ["good"]
    assert store.find_token("bad") is None
    assert store.find_token("good")


def test_deletions_for_unknown_reasons_are_left_to_who_knows_them(lax: Sql) -> None:
    store = lax.store
    for _ in range(2):
        store.abandon_upload(uploading(store).video.id)
    [first, second] = store.hold_deletions(limit=10, hold=timedelta(0))
    change(lax, "UPDATE object_deletions SET reason = 'whim' WHERE id = :id", id=first.id)
    assert store.hold_deletions(limit=10, hold=MINUTE) == [second]


def test_each_is_reported_once(sql: Sql) -> None:
    store = sql.another()
    bad = spoiled(sql, uploaded(store))
    with capture_logs() as lines:
        for _ in range(3):
            ids(store)
    [line] = [line for line in lines if "can't be read" in line["event"]]
    assert bad in str(line)
    assert "45" in str(line)


def test_a_lease_of_a_row_that_somebody_holds_keeps_nobody_waiting(postgresql: Sql) -> None:
    store = postgresql.store
    held, free = (claim(store, uploaded(store), lease=SECOND).video_id for _ in range(2))
    postgresql.pass_time(HOUR)
    with postgresql.database.transaction() as connection:
        connection.execute(text("SELECT FROM jobs WHERE video_id = :id FOR UPDATE"), {"id": held})
        assert store.end_expired_leases(limit=10, policy=POLICY) == 1
    assert due(store) == [free]
    assert store.end_expired_leases(limit=10, policy=POLICY) == 1


def test_an_unreadable_row_is_no_other_error(backend: Backend) -> None:
    """`except Refused` and `except Unavailable` do not catch `Unreadable`, which derives directly from AnbError."""
    assert Unreadable.__mro__[1] is AnbError
    new = new_video()
    backend.store.begin_upload(new, lifetime=MINUTE)
    backend.spoil(new.id)
    with pytest.raises(Unreadable):
        backend.store.begin_upload(new, lifetime=MINUTE)
