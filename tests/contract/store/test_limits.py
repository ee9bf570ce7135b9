"""Tests of the limits for unfinished videos and stored bytes, and of the usage that the limits compare."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text

from anb_core.adapters.database.tables import usage
from anb_core.domain.errors import LimitReached
from anb_core.domain.limits import Cap, Limits
from anb_core.domain.model import Idempotency, Record
from anb_core.ports.store import Replay, Store
from tests.contract.store.conftest import at_once
from tests.support.given import (
    DAY,
    MINUTE,
    SECOND,
    SOURCE,
    dead_lettered,
    fail,
    new_video,
    processed,
    processing,
    reject,
    uploaded,
    uploading,
)
from tests.support.stores import Backend, Sql

NONE = Cap(unfinished=0), Cap(stored_bytes=0)
KEY = Idempotency("key-1", lifetime=DAY)
RESULT = 9876
"""Size of the result of `tests.support.given.result`, in bytes."""


def used(store: Store, owner: str | None = "ada") -> tuple[int, int]:
    """Return the numbers of unfinished videos and of stored bytes that the store counts. None means all owners."""
    found = []
    for cap in NONE:
        limits = Limits(per_owner=cap) if owner is not None else Limits(in_all=cap)
        with pytest.raises(LimitReached) as refused:
            store.check_limits(limits, owner=owner or "nobody", size=1)
        [number, *_] = re.findall(r"\d+", refused.value.message)
        found.append(int(number))
    # The number of bytes in the message includes the one byte of the upload in this check.
    return found[0], found[1] - 1


def begin(store: Store, limits: Limits, *, owner: str = "ada", size: int | None = None) -> Record | Replay:
    """Begin an upload of `size` bytes, None if unknown."""
    return store.begin_upload(new_video(owner=owner), lifetime=MINUTE, size=size, limits=limits)


def test_a_new_store_uses_nothing(store: Store) -> None:
    assert (used(store), used(store, None)) == ((0, 0), (0, 0))


def _processing(store: Store) -> object:
    return processing(store)


def _failed_once(store: Store) -> object:
    return fail(store, processing(store))


def _rejected(store: Store) -> object:
    return reject(store, processing(store))


def _cancelled_upload(store: Store) -> object:
    return store.cancel(uploading(store).video.id)


def _cancelled(store: Store) -> object:
    return store.cancel(uploaded(store))


def _retried(store: Store) -> object:
    video_id = uploaded(store)
    store.cancel(video_id)
    return store.retry(video_id, by="ada")


def _deleted(store: Store) -> None:
    store.delete(processed(store), by="ada", grace=DAY)


def _abandoned(store: Store) -> None:
    store.abandon_upload(uploading(store).video.id)


def _submitted(store: Store) -> object:
    return store.submit_existing(new_video(owned=False), SOURCE)


@pytest.mark.parametrize(
    ("given", "unfinished", "stored"),
    [
        (uploading, 1, 1),
        (uploaded, 1, SOURCE.size),
        (_processing, 1, SOURCE.size),
        (_failed_once, 1, SOURCE.size),
        (processed, 0, SOURCE.size + RESULT),
        (_rejected, 0, SOURCE.size),
        (dead_lettered, 0, SOURCE.size),
        (_cancelled_upload, 0, 0),
        (_cancelled, 0, SOURCE.size),
        (_retried, 1, SOURCE.size),
        (_deleted, 0, SOURCE.size + RESULT),
        (_abandoned, 0, 0),
        (_submitted, 1, 0),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_owner_uses_what_its_videos_need(
    store: Store, given: Callable[[Store], object], unfinished: int, stored: int
) -> None:
    uploaded(store, owner="bob")
    given(store)
    assert used(store) == (unfinished, stored)
    assert used(store, None) == (unfinished + 1, stored + SOURCE.size)


def test_a_deleted_video_uses_nothing_once_its_files_are_removed(backend: Backend) -> None:
    store = backend.store
    store.delete(processed(store), by="ada", grace=DAY)
    backend.pass_time(2 * DAY)
    store.deletion_done(store.hold_deletions(limit=10, hold=MINUTE))
    store.purge(events_before=DAY, dead_letters_before=DAY, limit=10)
    assert used(store) == (0, 0)


def test_an_announced_size_counts_until_the_true_size_is_known(store: Store) -> None:
    new = new_video()
    store.begin_upload(new, lifetime=MINUTE, size=5000)
    assert used(store) == (1, 5000)
    store.complete_upload(new.id, SOURCE)
    assert used(store) == (1, SOURCE.size)


def test_the_usage_stays_the_same_when_the_sweep_merges_its_rows(sql: Sql) -> None:
    store = sql.store
    for owner in ("ada", "bob", "ada"):
        store.begin_upload(new_video(owner=owner), lifetime=MINUTE, size=10)
        uploaded(store, owner=owner)
        processed(store, owner=owner)
    store.abandon_upload(uploading(store, owner="eve").video.id)
    before = [used(store, owner) for owner in ("ada", "bob", "eve", None)]
    store.purge(events_before=DAY, dead_letters_before=DAY, limit=1)
    assert [used(store, owner) for owner in ("ada", "bob", "eve", None)] == before
    with sql.database.reading() as connection:
        rows = select(usage.c.owner, func.count()).where(usage.c.video_id.is_(None)).group_by(usage.c.owner)
        assert sorted(map(tuple, connection.execute(rows))) == [("ada", 1), ("bob", 1)]


def test_the_announced_size_of_an_upload_during_which_the_sweep_merges_rows_does_not_stay_counted(sql: Sql) -> None:
    store = sql.store
    new = new_video(owner="ada")
    store.begin_upload(new, lifetime=MINUTE, size=5000)
    uploaded(store, owner="ada")
    store.purge(events_before=DAY, dead_letters_before=DAY, limit=1)
    store.complete_upload(new.id, SOURCE)
    assert used(store) == (2, 2 * SOURCE.size)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            Limits(per_owner=Cap(unfinished=2)),
            (
                "You have 2 unfinished videos, and one owner may have at most 2: wait until some are processed, or"
                " cancel some."
            ),
        ),
        (
            Limits(in_all=Cap(unfinished=3)),
            "3 videos of all owners are unfinished, and at most 3 may be: wait until some are processed.",
        ),
    ],
    ids=["owner", "all"],
)
def test_an_upload_beyond_a_limit_of_unfinished_videos_is_refused_until_one_ends(
    store: Store, limits: Limits, message: str
) -> None:
    first = begin(store, limits)
    assert isinstance(first, Record)
    begin(store, limits)
    uploaded(store, owner="bob")
    last = store.last_event_id()
    for refusing in (lambda: store.check_limits(limits, owner="ada"), lambda: begin(store, limits)):
        with pytest.raises(LimitReached) as refused:
            refusing()
        assert (refused.value.code, refused.value.message) == ("backlog_full", message)
    assert store.last_event_id() == last
    store.cancel(first.video.id)
    store.check_limits(limits, owner="ada")
    assert isinstance(begin(store, limits), Record)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            Limits(per_owner=Cap(stored_bytes=1300)),
            (
                "With this upload your videos would have 1301 bytes, and one owner may store at most 1300: delete some"
                " videos. Their files are removed a day later, and count until then."
            ),
        ),
        (
            Limits(in_all=Cap(stored_bytes=2534)),
            (
                "With this upload the videos of all owners would have 2535 bytes, and at most 2534 may be stored:"
                " videos have to be deleted. Their files are removed a day later, and count until then."
            ),
        ),
    ],
    ids=["owner", "all"],
)
def test_an_upload_beyond_a_limit_of_bytes_is_refused_by_its_announced_size(
    store: Store, limits: Limits, message: str
) -> None:
    uploaded(store)
    uploaded(store, owner="bob")
    for refusing in (
        lambda: store.check_limits(limits, owner="ada", size=67),
        lambda: begin(store, limits, size=67),
    ):
        with pytest.raises(LimitReached) as refused:
            refusing()
        assert (refused.value.code, refused.value.message) == ("quota_exceeded", message)
        assert refused.value.wait == MINUTE
    store.check_limits(limits, owner="ada", size=66)
    begin(store, limits, size=66)
    with pytest.raises(LimitReached):
        begin(store, limits)


def test_the_wait_follows_the_pace_at_which_workers_begin_attempts(backend: Backend) -> None:
    store, limits = backend.store, Limits(per_owner=Cap(unfinished=1))
    uploading(store)

    def wait() -> timedelta:
        with pytest.raises(LimitReached) as refused:
            store.check_limits(limits, owner="ada")
        return refused.value.wait

    assert wait() == MINUTE
    for _ in range(3):
        processed(store, owner="bob")
    assert wait() == 20 * SECOND
    processed(store, owner="ada")
    assert wait() == 15 * SECOND
    backend.pass_time(2 * MINUTE)
    assert wait() == MINUTE


def test_a_limit_of_one_owner_does_not_refuse_another(store: Store) -> None:
    limits = Limits(per_owner=Cap(unfinished=1))
    begin(store, limits)
    assert isinstance(begin(store, limits, owner="bob"), Record)


def test_a_repeated_upload_is_not_refused(backend: Backend) -> None:
    store, limits = backend.store, Limits(per_owner=Cap(unfinished=1, stored_bytes=2000))
    first = new_video()
    begun = store.begin_upload(first, lifetime=MINUTE, idempotency=KEY, limits=limits)
    assert store.begin_upload(first, lifetime=MINUTE, idempotency=KEY, limits=limits) == begun
    store.complete_upload(first.id, SOURCE, fingerprint="f")
    store.check_limits(limits, owner="ada", size=2000, idempotency_key=KEY.key)
    replay = store.begin_upload(new_video(), lifetime=MINUTE, idempotency=KEY, size=2000, limits=limits)
    assert isinstance(replay, Replay)
    for owner, key in (("ada", "key-2"), ("ada", None)):
        with pytest.raises(LimitReached):
            store.check_limits(limits, owner=owner, idempotency_key=key)
    backend.pass_time(2 * DAY)
    with pytest.raises(LimitReached):
        store.check_limits(limits, owner="ada", idempotency_key=KEY.key)


def test_a_refused_upload_does_not_keep_its_idempotency_key(store: Store) -> None:
    limits = Limits(per_owner=Cap(unfinished=1))
    begin(store, limits)
    with pytest.raises(LimitReached):
        store.begin_upload(new_video(), lifetime=MINUTE, idempotency=KEY, limits=limits)
    assert isinstance(store.begin_upload(new_video(), lifetime=MINUTE, idempotency=KEY), Record)


@pytest.mark.parametrize("limits", [Limits(per_owner=Cap(unfinished=5)), Limits(in_all=Cap(stored_bytes=500))])
def test_of_twenty_uploads_at_once_only_as_many_begin_as_the_limit_allows(backend: Backend, limits: Limits) -> None:
    # Two stores, as in two processes. A process has fewer connections than this test has threads.
    stores = (backend.store, backend.another())

    def attempt(store: Store) -> bool:
        try:
            begin(store, limits, size=100)
        except LimitReached:
            return False
        return True

    accepted = at_once(*(lambda store=stores[number % 2]: attempt(store) for number in range(20)))
    assert sum(accepted) == 5
    assert used(backend.store) == (5, 500)


def test_changes_of_a_program_from_before_the_table_count_too(sql: Sql) -> None:
    """Runs statements of the previous version, which can run during an upgrade or after a rollback."""
    store = sql.store
    begun = new_video()
    store.begin_upload(begun, lifetime=MINUTE, size=5000)
    with sql.database.transaction() as connection:
        for statement in WRITTEN_BY_THE_PREVIOUS_VERSION:
            connection.execute(text(statement), {"video_id": begun.id})
    assert used(store) == (2, 1234)
    assert used(store, "bob") == (1, 0)
    with sql.database.transaction() as connection:
        connection.execute(text("DELETE FROM videos WHERE owner = 'bob'"))
        connection.execute(text("DELETE FROM videos WHERE id = :id"), {"id": begun.id})
    assert used(store) == (1, 0)
    assert used(store, None) == (1, 0)


WRITTEN_BY_THE_PREVIOUS_VERSION = (
    "UPDATE jobs SET status = 'uploaded', upload_expires_at = NULL, version = version + 1 WHERE video_id = :video_id",
    "UPDATE videos SET source_size = 1234 WHERE id = :video_id",
    *(
        statement.format(owner=owner)
        for owner in ("ada", "bob")
        for statement in (
            """INSERT INTO videos (id, owner, title, edit, source_key, owned, file_name, created_at)
            VALUES ('of-{owner}', '{owner}', 'T', '{{}}', 'uploads/of-{owner}.mp4', TRUE, 'a.mp4', 1)""",
            """INSERT INTO jobs (id, video_id, status, generation, fence, version, failures, lost, interruptions,
            progress, attempts, upload_expires_at, created_at, updated_at)
            VALUES ('of-{owner}', 'of-{owner}', 'uploading', 1, 0, 2, 0, 0, 0, 0, 0, 9, 1, 1)""",
        )
    ),
)
