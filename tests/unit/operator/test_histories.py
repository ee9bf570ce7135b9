"""Tests that `Histories` combines the reads of several tasks, each for one video, into one query."""

import asyncio
import gc
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from anb_core.domain.errors import Unavailable
from anb_core.domain.status import Status
from anb_core.ports.store import History
from anb_core.testing.clock import ManualClock
from anb_core.testing.store import InMemoryStore
from anb_operator.reconciler import Histories
from tests.support.given import claim, uploaded


class SlowStore(InMemoryStore):
    """A store that records which videos each query reads.

    A query sets the event `begun` after it has read the rows, and returns when the test sets `go_on`.
    """

    def __init__(self) -> None:
        super().__init__(ManualClock().now)
        self.reads: list[set[str]] = []
        self.fails: Callable[[Collection[str]], Exception | None] = lambda _: None
        self.begun, self.go_on = Event(), Event()

    def histories(self, video_ids: Collection[str]) -> Mapping[str, History]:
        self.reads.append(set(video_ids))
        if error := self.fails(video_ids):
            raise error
        found = super().histories(video_ids)
        self.begun.set()
        assert self.go_on.wait(10)
        return found


@pytest.fixture
def store() -> SlowStore:
    return SlowStore()


def status_of(history: History) -> Status | None:
    return history.record.job.status if history.record else None


def test_videos_that_are_asked_for_together_are_read_in_one_query(
    store: SlowStore, threads: ThreadPoolExecutor
) -> None:
    one, other = uploaded(store), uploaded(store)
    store.go_on.set()

    async def scenario() -> list[History]:
        histories = Histories(store, threads)
        return await asyncio.gather(*map(histories.of, (one, other, "unknown", one)))

    assert list(map(status_of, asyncio.run(scenario()))) == [Status.UPLOADED, Status.UPLOADED, None, Status.UPLOADED]
    assert store.reads == [{one, other, "unknown"}]


def test_a_task_never_gets_a_history_that_was_read_before_it_asked(
    store: SlowStore, threads: ThreadPoolExecutor
) -> None:
    one, other = uploaded(store), uploaded(store)

    async def scenario() -> None:
        histories = Histories(store, threads)
        first = asyncio.create_task(histories.of(one))
        await asyncio.get_running_loop().run_in_executor(threads, store.begun.wait, 10)
        claim(store, one)
        later = asyncio.gather(histories.of(one), histories.of(other))
        # Both tasks must request their videos before the first query ends.
        await asyncio.sleep(0)
        store.go_on.set()
        assert status_of(await first) is Status.UPLOADED
        assert list(map(status_of, await later)) == [Status.PROCESSING, Status.UPLOADED]

    asyncio.run(scenario())
    assert store.reads == [{one}, {one, other}]


def test_a_cancelled_task_does_not_cancel_the_others(store: SlowStore, threads: ThreadPoolExecutor) -> None:
    one, other = uploaded(store), uploaded(store)

    async def scenario() -> None:
        histories = Histories(store, threads)
        stopped, waiting = (asyncio.create_task(histories.of(video_id)) for video_id in (one, other))
        await asyncio.get_running_loop().run_in_executor(threads, store.begun.wait, 10)
        stopped.cancel()
        store.go_on.set()
        assert status_of(await waiting) is Status.UPLOADED
        with pytest.raises(asyncio.CancelledError):
            await stopped

    asyncio.run(scenario())


def test_after_a_cancelled_query_the_next_task_starts_a_new_one(store: SlowStore, threads: ThreadPoolExecutor) -> None:
    one, other = uploaded(store), uploaded(store)
    store.go_on.set()

    async def scenario() -> None:
        histories = Histories(store, threads)
        waiting = asyncio.create_task(histories.of(one))
        await asyncio.sleep(0)
        # Cancel the tasks as kopf does when it ends.
        for task in asyncio.all_tasks() - {asyncio.current_task(), waiting}:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert status_of(await histories.of(other)) is Status.UPLOADED

    asyncio.run(scenario())


def test_a_query_that_fails_after_its_tasks_were_cancelled_logs_nothing(
    store: SlowStore, threads: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    store.fails = lambda _: Unavailable("database", "away")

    async def scenario() -> None:
        cancelled = asyncio.create_task(Histories(store, threads).of("one"))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})

    asyncio.run(scenario())
    gc.collect()
    assert store.reads == [{"one"}]
    assert caplog.records == []


def test_an_unreadable_video_does_not_hold_up_the_others(store: SlowStore, threads: ThreadPoolExecutor) -> None:
    good, bad = uploaded(store), uploaded(store)
    store.go_on.set()
    store.fails = lambda video_ids: ValueError("what is this?") if bad in video_ids else None

    async def scenario() -> list[History | BaseException]:
        histories = Histories(store, threads)
        return await asyncio.gather(*map(histories.of, (good, bad)), return_exceptions=True)

    found, error = asyncio.run(scenario())
    assert isinstance(found, History)
    assert status_of(found) is Status.UPLOADED
    assert isinstance(error, ValueError)


def test_an_outage_of_the_database_fails_all_waiting_tasks_with_one_query_and_the_next_task_asks_again(
    store: SlowStore, threads: ThreadPoolExecutor
) -> None:
    one, other = uploaded(store), uploaded(store)
    store.go_on.set()
    store.fails = lambda _: Unavailable("database", "away")

    async def scenario() -> None:
        histories = Histories(store, threads)
        errors = await asyncio.gather(*map(histories.of, (one, other)), return_exceptions=True)
        assert [type(error) for error in errors] == [Unavailable, Unavailable]
        store.fails = lambda _: None
        assert status_of(await histories.of(one)) is Status.UPLOADED

    asyncio.run(scenario())
    assert store.reads == [{one, other}, {one}]
