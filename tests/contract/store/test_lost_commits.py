"""Tests of a store that loses the database's response to a COMMIT."""

from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

from anb_core.adapters.database import SqlStore
from anb_core.adapters.system import new_id
from anb_core.domain.dead_letters import DeadLetterFilter
from anb_core.domain.errors import Conflict, Unavailable
from anb_core.domain.model import Record
from anb_core.domain.status import Status
from anb_core.ports.store import Claimed
from tests.support.given import (
    LEASE,
    MINUTE,
    POLICY,
    SOURCE,
    claim,
    due,
    fail,
    interrupt,
    new_video,
    processing,
    record_of,
    result,
    sent,
    uploaded,
    uploading,
)
from tests.support.proxy import Cut, Proxy, proxied
from tests.support.stores import Sql


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
"""The bytes of a COMMIT on the network. Without the NUL byte, the proxy would also find them in READ COMMITTED."""

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
    assert len(postgresql.store.history(video_id).attempts) == 1
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


@BOTH
def test_a_moved_message_counts_once_though_the_answer_to_its_commit_was_lost(
    postgresql: Sql, proxy: Proxy, far: SqlStore, when: Cut
) -> None:
    video_id = uploaded(postgresql.store)
    sent(postgresql.store, video_id)
    proxy.cut(when, COMMIT)
    far.receive_dead_letter(message_id="m", body="{}", video_id=video_id, generation=1, policy=POLICY)
    assert proxy.cuts == 1
    assert record_of(postgresql.store, video_id).job.counters.lost == 1
    assert due(postgresql.store) == [video_id]
    assert len(postgresql.store.dead_letters(DeadLetterFilter(state="resolved"))) == 1


def test_what_cannot_be_repeated_says_that_the_database_is_away(postgresql: Sql, proxy: Proxy, far: SqlStore) -> None:
    video_id = uploaded(postgresql.store)
    proxy.cut(Cut.AFTER, COMMIT)
    with pytest.raises(Unavailable):
        far.cancel(video_id)
    # The second call raises Conflict, because the first call cancelled the video before the connection broke.
    with pytest.raises(Conflict):
        far.cancel(video_id)


def test_a_repetition_acts_on_what_happened_in_between(postgresql: Sql, proxy: Proxy, far: SqlStore) -> None:
    """The store loses the response to the first COMMIT. Another worker claims the job before the store tries again."""
    lease = processing(postgresql.store)
    proxy.cut(Cut.AFTER, COMMIT)
    assert interrupt(far, lease)
    other = claim(postgresql.store, lease.video_id)
    assert interrupt(far, lease)
    job = record_of(postgresql.store, lease.video_id).job
    assert (job.lease_owner, job.counters.interruptions) == (other.attempt_id, 1)


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
