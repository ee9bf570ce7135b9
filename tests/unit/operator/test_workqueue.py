import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest

from anb_core.domain.model import EventKind, JobEvent
from anb_core.domain.status import Status
from anb_core.testing.clock import BEGINNING, ManualClock
from anb_operator.workqueue import LONGEST_DELAY_SECONDS, Work, WorkQueue, plan_delay

Scenario = Callable[[WorkQueue, ManualClock], Coroutine[Any, Any, None]]


def event(number: int) -> JobEvent:
    at = BEGINNING + timedelta(seconds=number)
    return JobEvent(number, EventKind.PROGRESS, "a", "job", "alice", 1, Status.PROCESSING, 0.5, at)


def run(scenario: Scenario) -> None:
    async def made() -> None:
        clock = ManualClock()
        await scenario(WorkQueue(monotonic=clock.monotonic, jitter=lambda: 1.0), clock)

    asyncio.run(made())


async def waits(queue: WorkQueue) -> bool:
    """Return whether no entry of the queue is due."""
    try:
        async with asyncio.timeout(0):
            await queue.take()
    except TimeoutError:
        return True
    return False


def test_a_video_that_is_added_often_is_taken_once() -> None:
    async def scenario(queue: WorkQueue, _: ManualClock) -> None:
        queue.add("a")
        queue.add("a")
        queue.add("b", event(7))
        assert await queue.take() == Work("a")
        assert await queue.take() == Work("b", event(7))
        assert await waits(queue)

    run(scenario)


def test_a_video_that_is_added_while_it_is_handled_is_taken_again_afterwards() -> None:
    async def scenario(queue: WorkQueue, _: ManualClock) -> None:
        queue.add("a")
        await queue.take()
        queue.add("a", event(3))
        assert await waits(queue)
        queue.done("a")
        assert await queue.take() == Work("a", event(3))

    run(scenario)


def test_a_video_that_is_added_while_it_fails_is_handled_by_the_next_try() -> None:
    async def scenario(queue: WorkQueue, clock: ManualClock) -> None:
        queue.add("a")
        await queue.take()
        queue.add("a", event(3))
        clock.advance(timedelta(seconds=queue.failed("a")))
        assert await queue.take() == Work("a", event(3))
        queue.done("a")
        assert await waits(queue)

    run(scenario)


def test_news_goes_before_videos_that_are_only_compared() -> None:
    async def scenario(queue: WorkQueue, clock: ManualClock) -> None:
        for video_id in ("a", "b", "c"):
            queue.add_to_compare(video_id)
        queue.add("news", event(4))
        queue.add("b")
        queue.add_to_compare("news")
        queue.add_later("due", 1)
        clock.advance(timedelta(seconds=1))
        taken = [(await queue.take()).video_id for _ in range(5)]
        assert taken == ["news", "b", "due", "a", "c"]
        queue.add_to_compare("a")
        assert await waits(queue), "it is being done"
        queue.done("a")
        assert (await queue.take()).video_id == "a"

    run(scenario)


def test_a_video_that_fails_is_tried_again_after_a_growing_pause_and_is_still_news() -> None:
    async def scenario(queue: WorkQueue, clock: ManualClock) -> None:
        queue.add("a", event(3))
        delays = []
        for _ in range(3):
            assert await queue.take() == Work("a", event(3))
            delays.append(queue.failed("a"))
            assert await waits(queue)
            clock.advance(timedelta(seconds=delays[-1]))
        assert delays == [0.5, 1.0, 2.0]
        await queue.take()
        queue.done("a")
        queue.add("a")
        await queue.take()
        assert queue.failed("a") == 0.5

    run(scenario)


def test_a_video_that_fails_waits_for_its_next_try_whatever_was_due_before() -> None:
    async def scenario(queue: WorkQueue, clock: ManualClock) -> None:
        queue.add("a")
        for _ in range(3):
            await queue.take()
            clock.advance(timedelta(seconds=queue.failed("a")))
        await queue.take()
        queue.add_later("a", 1)
        assert queue.failed("a") == 4.0
        clock.advance(timedelta(seconds=3))
        assert await waits(queue)
        clock.advance(timedelta(seconds=1))
        assert await queue.take() == Work("a")

    run(scenario)


def test_the_earliest_of_several_times_counts() -> None:
    async def scenario(queue: WorkQueue, clock: ManualClock) -> None:
        queue.add_later("a", 100)
        queue.add_later("a", 10)
        queue.add_later("a", 50)
        clock.advance(timedelta(seconds=9))
        assert await waits(queue)
        clock.advance(timedelta(seconds=1))
        assert (await queue.take()).video_id == "a"
        queue.done("a")
        clock.advance(timedelta(seconds=1000))
        assert await waits(queue)

    run(scenario)


@pytest.mark.parametrize(
    "comes",
    [
        lambda queue: queue.add("b"),
        lambda queue: queue.add_to_compare("b"),
        lambda queue: queue.add_later("b", 0),
        lambda queue: queue.done("a"),
    ],
    ids=["news", "compared", "due", "done"],
)
def test_a_waiting_task_is_woken_by_work_that_is_due_earlier(comes: Callable[[WorkQueue], None]) -> None:
    async def scenario(queue: WorkQueue, _: ManualClock) -> None:
        queue.add("a")
        await queue.take()
        queue.add("a")
        queue.add_later("late", 3600)
        taken = asyncio.create_task(queue.take())
        await asyncio.sleep(0)
        comes(queue)
        async with asyncio.timeout(5):
            assert (await taken).video_id in {"a", "b"}

    run(scenario)


def test_an_event_is_pending_until_its_video_and_all_before_it_are_done() -> None:
    async def scenario(queue: WorkQueue, _: ManualClock) -> None:
        assert queue.pending() is None
        queue.add("a", event(5))
        queue.add("b", event(6))
        queue.add("a", event(7))
        assert queue.pending() == event(5)
        await queue.take()
        assert queue.pending() == event(5)
        queue.failed("a")
        assert queue.pending() == event(5)
        assert queue.failing == 1
        assert (await queue.take()).video_id == "b"
        queue.done("b")
        assert queue.pending() == event(5)
        queue.add("a")
        await queue.take()
        queue.done("a")
        assert queue.pending() is None

    run(scenario)


@pytest.mark.parametrize("end", ["waiting", "failed"])
def test_after_a_restore_of_the_database_the_first_of_its_events_is_pending(end: str) -> None:
    async def scenario(queue: WorkQueue, _: ManualClock) -> None:
        queue.add("a", event(1000))
        if end == "failed":
            await queue.take()
        queue.add("a", event(400))
        if end == "failed":
            queue.failed("a")
        assert queue.pending() == event(400)
        queue.add("a")
        assert await queue.take() == Work("a", event(400))
        queue.done("a")
        assert queue.pending() is None

    run(scenario)


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_delays_grow_to_a_limit(jitter: float) -> None:
    delays = [plan_delay(failures, jitter) for failures in range(1, 2000)]
    assert delays == sorted(delays)
    assert delays[0] >= 0.25
    assert LONGEST_DELAY_SECONDS / 2 <= delays[-1] <= LONGEST_DELAY_SECONDS
