"""Tests of the follower of the feed: order of events, cursor, pauses, and lag."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from anb_core.domain.errors import Unavailable
from anb_core.domain.model import JobEvent
from anb_core.testing.clock import ManualClock
from anb_core.testing.runtime import ManualRuntime
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.follow import BATCH, Follower
from tests.support.given import MINUTE, restore_feed, uploaded, uploading

AWAY = Unavailable("database", "The database does not answer.")
SHORT = timedelta(milliseconds=1)


class CountingStore(InMemoryStore):
    """A store whose field `moves` counts the calls of `move_cursor`."""

    moves = 0

    def move_cursor(self, name: str, event_id: int) -> None:
        self.moves += 1
        super().move_cursor(name, event_id)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> CountingStore:
    return CountingStore(clock.now)


def follower(store: InMemoryStore, clock: ManualClock, *, name: str | None = "reader") -> Follower:
    return Follower(store, ManualRuntime(clock), name=name, interval=SHORT)


def ids(events: Sequence[JobEvent]) -> list[int]:
    return [event.id for event in events]


def test_a_new_reader_with_a_name_gets_everything_in_order(store: CountingStore, clock: ManualClock) -> None:
    many = BATCH + 3
    for _ in range(many):
        uploading(store)
    reader = follower(store, clock)
    assert ids(reader.next()) == list(range(1, BATCH + 1))
    assert ids(reader.next()) == list(range(BATCH + 1, many + 1))


def test_a_reader_without_a_name_begins_at_the_end(store: CountingStore, clock: ManualClock) -> None:
    uploaded(store)
    reader = follower(store, clock, name=None)
    assert reader.next() == []
    uploading(store)
    assert ids(reader.next()) == [3]
    uploading(store)
    reader.begin()
    assert reader.next() == []
    assert store.cursors == {}


def test_the_cursor_stays_before_what_is_pending_and_is_where_the_next_start_begins(
    store: CountingStore, clock: ManualClock
) -> None:
    for _ in range(4):
        uploading(store)
    reader = follower(store, clock)
    events = reader.next()
    assert store.cursor("reader") is None
    reader.next(events[2])
    assert store.cursor("reader") == 2
    assert ids(follower(store, clock).next()) == [3, 4]
    for _ in range(3):
        reader.next(None)
    assert store.cursor("reader") == 4
    assert store.moves == 2
    assert follower(store, clock).next() == []


def fail_to_read(reader: Follower, store: CountingStore, pending: JobEvent | None = None) -> None:
    """Make the database unavailable, and let the reader read the feed. The database stays unavailable."""
    store.fault = AWAY
    with pytest.raises(Unavailable):
        reader.next(pending)


class PacedRuntime(ManualRuntime):
    """A runtime whose events return from `wait` at once. `waits` lists the timeouts of all calls of `wait`."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.waits: list[float | None] = []

    def event(self) -> threading.Event:
        waits = self.waits

        class Noted(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                waits.append(0.0 if self.is_set() else timeout)
                return self.is_set()

        return Noted()


def test_it_looks_at_once_then_once_an_interval_and_at_once_when_it_is_woken(
    store: CountingStore, clock: ManualClock
) -> None:
    runtime = PacedRuntime(clock)
    reader = Follower(store, runtime, name="reader", interval=MINUTE)
    for waits in ([], [60.0], [60.0, 60.0]):
        assert reader.next() == []
        assert runtime.waits == waits
    reader.wake()
    for _ in range(2):
        assert reader.next() == []
    assert runtime.waits[2:] == [0.0, 60.0]
    for _ in range(BATCH):
        uploading(store)
    assert len(reader.next()) == BATCH
    assert reader.next() == []
    assert runtime.waits[4:] == [60.0]


def test_after_an_error_it_waits_before_it_tries_again(store: CountingStore, clock: ManualClock) -> None:
    runtime = PacedRuntime(clock)
    reader = Follower(store, runtime, name="reader", interval=MINUTE)
    for waits in ([], [60.0], [60.0, 60.0]):
        fail_to_read(reader, store)
        assert runtime.waits == waits


@pytest.mark.parametrize(("name", "again"), [("reader", [2, 3]), (None, [3])])
def test_after_an_error_a_reader_with_a_name_goes_back_to_its_cursor(
    store: CountingStore, clock: ManualClock, name: str | None, again: list[int]
) -> None:
    reader = follower(store, clock, name=name)
    reader.begin()
    uploaded(store)
    events = reader.next()
    assert ids(events) == [1, 2]
    reader.next(events[1])
    for _ in range(2):
        fail_to_read(reader, store, events[1])
    store.fault = None
    uploading(store)
    assert ids(reader.next(events[1])) == again


def test_a_feed_that_is_behind_its_cursor_is_read_from_the_beginning(store: CountingStore, clock: ManualClock) -> None:
    uploading(store)
    store.move_cursor("reader", 1000)
    reader = follower(store, clock)
    assert ids(reader.next()) == [1]
    reader.next()
    assert store.cursor("reader") == 1


def test_a_database_that_comes_back_in_an_earlier_state_is_followed_from_its_own_cursor(
    store: CountingStore, clock: ManualClock
) -> None:
    for _ in range(3):
        uploading(store)
    reader = follower(store, clock)
    reader.next()
    reader.next()
    assert store.cursor("reader") == 3
    fail_to_read(reader, store)
    restore_feed(store, last=2, reader="reader")
    store.fault = None
    uploading(store)
    assert ids(reader.next()) == [3]
    reader.next()
    assert store.cursor("reader") == 3


def test_the_backlog_is_counted_from_the_first_pending_event_also_through_an_outage(
    store: CountingStore, clock: ManualClock
) -> None:
    for _ in range(4):
        uploading(store)
    reader = follower(store, clock)
    events = reader.next()
    fail_to_read(reader, store, events[1])
    assert [reader.backlog(pending) for pending in (events[0], events[1], events[3], None)] == [4, 3, 1, 0]
    # After a restore of the database, a pending event may have an id that the reader has not seen.
    assert reader.backlog(replace(events[0], id=9)) == 0


def test_the_lag_is_the_age_of_what_is_pending_or_the_time_since_the_last_look(
    store: CountingStore, clock: ManualClock
) -> None:
    uploading(store)
    reader = follower(store, clock)
    [event] = reader.next()
    clock.advance(MINUTE)
    assert reader.lag(event, clock.now()) == reader.lag(None, clock.now()) == MINUTE
    reader.next()
    assert (reader.lag(event, clock.now()), reader.lag(None, clock.now())) == (MINUTE, timedelta(0))
    clock.advance(MINUTE)
    fail_to_read(reader, store)
    assert (reader.lag(event, clock.now()), reader.lag(None, clock.now())) == (2 * MINUTE, MINUTE)
