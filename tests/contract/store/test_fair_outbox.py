from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text

from anb_core.adapters.database.outbox import RELAY_LOCK
from anb_core.domain.fairness import Due, in_fair_order
from anb_core.ports.store import OutboxEntry, QueueLimit, Store
from tests.support.given import HOUR, MINUTE, POLICY, SECOND, claim, fail, record_of, uploaded
from tests.support.stores import Backend, Sql

QUEUE = "queue"


def upload(store: Store, owners: str) -> list[str]:
    """Upload a video for each letter of `owners`. The letter is the video's owner. Returns the ids of the videos."""
    return [uploaded(store, owner=owner) for owner in owners]


def take(store: Store, limit: int = 10, *, room: int | None = None, hold: timedelta = MINUTE) -> Sequence[OutboxEntry]:
    """Hold entries as a relay does. `room` is the maximum number of messages in the queue, None for no limit."""
    return store.hold_outbox(limit=limit, hold=hold, queue_limit=None if room is None else QueueLimit(QUEUE, room))


def send(store: Store, *, room: int) -> str:
    """Send all messages for which the queue has room. Returns their owners, in the order of the messages."""
    owners = ""
    while entries := take(store, room=room):
        owners += owners_of(entries)
        for entry in entries:
            store.mark_sent(entry, broker=QUEUE)
    return owners


def owners_of(entries: Sequence[OutboxEntry]) -> str:
    """Return the owners of the entries, one letter each."""
    return "".join(entry.owner for entry in entries)


def test_owners_take_turns(store: Store) -> None:
    upload(store, "aaaaabbc")
    assert owners_of(take(store, 3)) in {"abc", "acb", "bac", "bca", "cab", "cba"}
    assert sorted(owners_of(take(store, 2))) == ["a", "b"]
    assert owners_of(take(store)) == "aaa"


def test_of_many_owners_those_go_first_whose_first_message_became_due_first(backend: Backend) -> None:
    store = backend.store
    owners = [f"owner-{number}" for number in (3, 1, 4, 2, 0, 5)]
    for owner in owners:
        uploaded(store, owner=owner)
        uploaded(store, owner=owner)
        backend.pass_time(SECOND)
    assert [entry.owner for entry in take(store, 4)] == owners[:4]
    assert [entry.owner for entry in take(store, 4)] == [*owners[:4]]
    assert [entry.owner for entry in take(store, 4)] == [*owners[4:], *owners[4:]]


def test_no_more_messages_are_sent_than_the_queue_has_room_for(store: Store) -> None:
    videos = upload(store, "a" * 8)
    assert send(store, room=5) == "aaaaa"
    assert take(store, room=5) == []
    assert len(take(store, room=6)) == 1
    sent = [video_id for video_id in videos if record_of(store, video_id).job.enqueued_at]
    claim(store, sent[0])
    store.cancel(sent[1])
    assert len(take(store, room=6)) == 2


def test_entries_that_a_relay_sends_now_use_room_until_the_hold_ends(backend: Backend) -> None:
    store = backend.store
    upload(store, "a" * 8)
    assert len(take(store, room=3)) == 3
    assert take(store, room=3) == []
    backend.pass_time(MINUTE)
    entries = take(store, room=3)
    assert len(entries) == 3
    store.mark_unsent(entries[0], delay=HOUR)
    assert len(take(store, room=3)) == 1


def test_an_owner_with_jobs_in_flight_is_behind_an_owner_without(store: Store) -> None:
    videos = upload(store, "aaaaaa")
    assert send(store, room=3) == "aaa"
    for video_id in videos[:2]:
        claim(store, video_id)
    upload(store, "bb")
    assert owners_of(take(store, 1, room=3, hold=timedelta(0))) == "b"
    assert send(store, room=3) == "bb"
    assert send(store, room=4) == "a"


def test_a_job_that_waits_for_its_next_attempt_uses_no_room_and_counts_as_not_in_flight(backend: Backend) -> None:
    store = backend.store
    [retried, *_] = upload(store, "aa")
    assert send(store, room=2) == "aa"
    assert fail(store, claim(store, retried))
    upload(store, "bb")
    assert send(store, room=2) == "b"
    backend.pass_time(10 * SECOND)
    assert send(store, room=4) in {"ab", "ba"}


def test_only_messages_in_the_same_queue_use_its_room(store: Store) -> None:
    upload(store, "aaaa")
    for entry in take(store, 2):
        store.mark_sent(entry, broker="another")
    assert send(store, room=2) == "aa"


def test_messages_that_were_lost_and_are_sent_again_use_no_room(backend: Backend) -> None:
    store = backend.store
    upload(store, "aaaa")
    assert send(store, room=2) == "aa"
    backend.pass_time(HOUR)
    assert store.requeue_unclaimed(enqueued_before=MINUTE, limit=10) == 2
    assert send(store, room=2) == "aa"
    assert send(store, room=3) == "a"


def test_the_messages_that_are_sent_earlier_are_ahead_of_a_message_in_the_outbox(backend: Backend) -> None:
    store = backend.store
    first, *_, last = upload(store, "aaaaaa")
    assert send(store, room=2) == "aa"
    claim(store, first)
    backend.pass_time(SECOND)
    others = upload(store, "bbb")
    backend.pass_time(SECOND)

    assert [ahead(store, video_id) for video_id in others] == [0, 1, 3]
    assert ahead(store, last) == 6
    assert [entry.video_id for entry in take(store, room=9)][-1] == last
    assert ahead(store, last) == 0


def test_an_entry_that_a_relay_of_an_older_program_takes_meanwhile_is_left_to_it(
    postgresql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay of an older program chooses entries without the lock RELAY_LOCK."""
    upload(postgresql.store, "aa")

    def take_an_entry_meanwhile(due: Iterable[Due], in_flight: Mapping[str, int]) -> list[Due]:
        chosen = in_fair_order(due, in_flight)
        with postgresql.database.transaction() as connection:
            connection.execute(
                text("UPDATE outbox SET token = 'older', send_after = send_after + 60000 WHERE id = :id"),
                {"id": chosen[0].id},
            )
        return chosen

    monkeypatch.setattr("anb_core.adapters.database.outbox.in_fair_order", take_an_entry_meanwhile)
    assert len(take(postgresql.store)) == 1


def ahead(store: Store, video_id: str) -> int:
    """Return how many messages are sent before the video's message."""
    unsent = store.surroundings(video_id).unsent
    assert unsent is not None
    return unsent.ahead


def test_a_relay_waits_while_another_relay_chooses_entries(postgresql: Sql) -> None:
    upload(postgresql.store, "a")
    with ThreadPoolExecutor(1) as threads:
        with postgresql.database.transaction() as other:
            other.execute(select(func.pg_advisory_xact_lock(RELAY_LOCK)))
            held = threads.submit(take, postgresql.store)
            with pytest.raises(TimeoutError):
                held.result(timeout=0.3)
        assert len(held.result(timeout=30)) == 1


def test_every_way_into_the_outbox_names_the_owner(sql: Sql) -> None:
    store = sql.store
    waits, early, lost, _ = upload(store, "abcd")
    assert fail(store, claim(store, waits))
    store.claim(early, generation=1, attempt_id="1", worker="w", lease=MINUTE, policy=POLICY)
    for entry in take(store):
        store.mark_sent(entry, broker=QUEUE)
    sql.pass_time(2 * MINUTE)
    store.requeue_unclaimed(enqueued_before=MINUTE, limit=10)
    store.end_expired_leases(limit=10, policy=POLICY)
    with sql.database.reading() as connection:
        rows = connection.execute(text("SELECT job_id, owner FROM outbox")).all()
    owners = {
        record_of(store, video_id).job.id: record_of(store, video_id).video.owner for video_id in (waits, early, lost)
    }
    assert owners.items() <= dict(rows).items()


@pytest.mark.parametrize("owner", ["", "ana"])
def test_an_entry_that_an_older_program_adds_is_sent_like_any_other(sql: Sql, owner: str) -> None:
    """A program from before migration 0008 leaves the owner empty. The owner of a video may be empty, too."""
    store = sql.store
    upload(store, "a")
    uploaded(store, owner=owner)
    with sql.database.transaction() as connection:
        connection.execute(
            text("UPDATE outbox SET owner = DEFAULT" if "postgresql" in sql.url else "UPDATE outbox SET owner = ''")
        )
    assert sorted(entry.owner for entry in take(store, room=5)) == sorted(["a", owner])
