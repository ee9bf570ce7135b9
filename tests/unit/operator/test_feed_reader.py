"""Tests of the operator's feed reader: cursor, lag, and outages of the database."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from anb_core.testing.runtime import ManualRuntime
from anb_operator.feed import READER, FeedReader
from anb_operator.workqueue import WorkQueue
from tests.support.given import HOUR, processing, restore_feed, result, uploaded
from tests.unit.operator.conftest import DATABASE_AWAY, World, beside, until


def reader(
    world: World,
    queue: WorkQueue,
    *,
    attempts: list[str],
    beats: list[str],
    reported: list[Exception | None] | None = None,
) -> FeedReader:
    return FeedReader(
        world.store,
        queue,
        ManualRuntime(world.clock),
        threads=world.threads,
        on_attempt=lambda: attempts.append("attempt"),
        beat=lambda: beats.append("beat"),
        report=lambda error: reported.append(error) if reported is not None else None,
        interval=timedelta(milliseconds=1),
    )


def test_the_feed_is_read_from_the_cursor_which_follows_handled_events(world: World) -> None:
    first, second = uploaded(world.store), uploaded(world.store)
    last = world.store.last_event_id()

    async def scenario() -> None:
        queue = WorkQueue()

        async def handle_both() -> None:
            works = [await queue.take(), await queue.take()]
            assert {work.video_id for work in works} == {first, second}
            assert all(work.event for work in works)
            queue.done(second)
            await until(lambda: beats[5:])
            assert world.store.cursor(READER) in {None, 0}
            queue.done(first)
            await until(lambda: world.store.cursor(READER) == last)

        beats: list[str] = []
        await beside(reader(world, queue, attempts=[], beats=beats).run(), handle_both)
        third = uploaded(world.store)
        again = WorkQueue()

        async def only_the_new_one() -> None:
            assert (await again.take()).video_id == third
            assert len(again) == 0

        await beside(reader(world, again, attempts=[], beats=[]).run(), only_the_new_one)

    asyncio.run(scenario())


def test_after_a_restore_without_these_events_the_feed_is_read_from_its_beginning(world: World) -> None:
    video_id = uploaded(world.store)
    world.store.move_cursor(READER, 1000)

    async def scenario() -> None:
        queue = WorkQueue()

        async def taken() -> None:
            assert (await queue.take()).video_id == video_id

        await beside(reader(world, queue, attempts=[], beats=[]).run(), taken)

    asyncio.run(scenario())


def test_after_a_restore_under_a_running_reader_the_feed_is_read_from_the_restored_cursor(
    world: World,
) -> None:
    kept = uploaded(world.store)
    lost = uploaded(world.store)
    last = world.store.last_event_id()

    async def scenario() -> None:
        queue, reported = WorkQueue(), list[Exception | None]()
        feed = reader(world, queue, attempts=[], beats=[], reported=reported)

        async def restore() -> None:
            assert {(await queue.take()).video_id for _ in range(2)} == {kept, lost}
            queue.done(kept)
            queue.done(lost)
            await until(lambda: world.store.cursor(READER) == last)
            world.store.fault = DATABASE_AWAY
            await until(lambda: reported[-1])
            restore_feed(world.store, last=1, reader=READER)
            world.store.fault = None
            new = uploaded(world.store)
            assert world.store.last_event_id() <= last
            assert (await queue.take()).video_id == new
            queue.done(new)
            await until(lambda: world.store.cursor(READER) == world.store.last_event_id())

        await beside(feed.run(), restore)

    asyncio.run(scenario())


def test_unhandled_events_are_counted_during_an_outage(world: World) -> None:
    uploaded(world.store)
    last = world.store.last_event_id()

    async def scenario() -> None:
        queue, reported = WorkQueue(), list[Exception | None]()
        feed = reader(world, queue, attempts=[], beats=[], reported=reported)

        async def away() -> None:
            assert feed.unanswered() == 0
            await until(lambda: feed.unanswered() == last)
            world.store.fault = DATABASE_AWAY
            await until(lambda: reported[-1])
            assert feed.unanswered() == last

        await beside(feed.run(), away)

    asyncio.run(scenario())


def test_the_lag_is_the_age_of_the_oldest_unhandled_event(world: World) -> None:
    queue = WorkQueue()
    feed = reader(world, queue, attempts=[], beats=[])
    assert feed.lag() < HOUR.total_seconds()
    uploaded(world.store)
    [event, *_] = world.store.events_after(0, limit=1)
    queue.add(event.video_id, replace(event, at=datetime.now(UTC) - HOUR))
    assert feed.lag() >= HOUR.total_seconds()


def test_while_the_feed_is_not_read_the_lag_grows_although_no_event_is_known(world: World) -> None:
    async def scenario() -> None:
        reported = list[Exception | None]()
        feed = reader(world, WorkQueue(), attempts=[], beats=[], reported=reported)
        world.store.fault = DATABASE_AWAY

        async def comes_back() -> None:
            await until(lambda: reported)
            world.clock.advance(HOUR)
            assert feed.lag() == HOUR.total_seconds()
            world.store.fault = None
            await until(lambda: reported[-1] is None)
            assert feed.lag() == 0

        await beside(feed.run(), comes_back)

    asyncio.run(scenario())


def test_an_outage_of_the_database_ends_nothing_and_the_feed_beats_on(world: World) -> None:
    video_id = uploaded(world.store)
    world.store.fault = DATABASE_AWAY

    async def scenario() -> None:
        queue, beats = WorkQueue(), list[str]()

        async def comes_back() -> None:
            await until(lambda: beats[3:])
            world.store.fault = None
            assert (await queue.take()).video_id == video_id

        await beside(reader(world, queue, attempts=[], beats=beats).run(), comes_back)

    asyncio.run(scenario())


@pytest.mark.parametrize("add", [WorkQueue.add, WorkQueue.add_to_compare])
def test_while_the_feed_cannot_be_read_only_urgent_videos_are_handled(
    world: World, add: Callable[[WorkQueue, str], None]
) -> None:
    missing_table = RuntimeError("no such table: events")

    async def scenario() -> None:
        queue, reported = WorkQueue(urgent=lambda video_id: video_id == "deleted"), list[Exception | None]()
        world.store.fault = missing_table

        async def comes_back() -> None:
            await until(lambda: reported[2:])
            assert reported == [missing_table] * len(reported)
            add(queue, "waiting")
            add(queue, "deleted")
            assert (await queue.take()).video_id == "deleted"
            taken = asyncio.create_task(queue.take())
            await until(lambda: reported[6:])
            assert not taken.done()
            world.store.fault = None
            assert (await taken).video_id == "waiting"
            assert reported[-1] is None

        await beside(reader(world, queue, attempts=[], beats=[], reported=reported).run(), comes_back)

    asyncio.run(scenario())


def test_progress_alone_is_no_reason_to_list_the_pods(world: World) -> None:
    lease = processing(world.store)
    world.store.move_cursor(READER, world.store.last_event_id())
    world.store.report_progress(lease, 0.5)

    async def scenario() -> None:
        queue, attempts = WorkQueue(), list[str]()

        async def progress_then_end() -> None:
            await queue.take()
            assert attempts == []
            world.store.publish(lease, result(lease))
            await until(lambda: attempts)

        await beside(reader(world, queue, attempts=attempts, beats=[]).run(), progress_then_end)

    asyncio.run(scenario())
