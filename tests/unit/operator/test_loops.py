"""Tests of the operator's health checks and loops: feed reader, reconcile workers, resync and pod deletion costs."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from structlog.testing import capture_logs

from anb_core.domain.errors import Unavailable, Unreadable
from anb_core.testing.runtime import ManualRuntime
from anb_operator.deletion_costs import BUSY, DELETION_COST, DeletionCosts, plan_costs
from anb_operator.feed import READER, FeedReader
from anb_operator.health import FEED_PATIENCE, WATCH_PATIENCE, Health
from anb_operator.kube import KubeRefused, Missing
from anb_operator.metrics import Metrics
from anb_operator.reconcile_workers import reconcile_worker
from anb_operator.resync import Resync
from anb_operator.workqueue import WorkQueue
from tests.support.given import HOUR, SECOND, claim, processed, processing, result, uploaded
from tests.unit.operator.conftest import World

KUBERNETES_AWAY = Unavailable("kubernetes", "away")
DATABASE_AWAY = Unavailable("database", "the database does not answer")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the code under test sets no event
            await asyncio.sleep(0.001)


def beside(loop: Coroutine[Any, Any, None], scenario: Callable[[], Awaitable[None]]) -> Coroutine[Any, Any, None]:
    """Run a scenario while the loop runs, and cancel the loop at its end."""

    async def both() -> None:
        task = asyncio.create_task(loop)
        try:
            await scenario()
        finally:
            task.cancel()

    return both()


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
            del world.store.events[1:]
            world.store.event_ids = count(2)
            world.store.cursors[READER] = 1
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


def test_one_video_that_meets_an_outage_of_the_database_pauses_all_others() -> None:
    calls: list[str] = []

    async def away(video_id: str, *, news: bool) -> float | None:  # noqa: ARG001 - the signature of reconcile
        calls.append(video_id)
        raise DATABASE_AWAY

    async def scenario() -> None:
        queue = WorkQueue(jitter=lambda: 0.0)
        for number in range(100):
            queue.add(f"video-{number}")

        async def writers_pause() -> None:
            await until(lambda: calls)
            for _ in range(100):
                await asyncio.sleep(0)
            assert calls == ["video-0"]
            queue.resume()
            await until(lambda: calls[1:])
            assert calls == ["video-0", "video-1"]

        await beside(reconcile_worker(queue, away, Metrics()), writers_pause)

    asyncio.run(scenario())


def test_videojobs_are_listed_and_videos_compared_whatever_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anb_operator.resync.RESYNC_SECONDS", 0.001)
    monkeypatch.setattr("anb_operator.resync.PAUSE_SECONDS", 0.001)
    video_id = uploaded(world.store)
    refused = RuntimeError("permission denied for table jobs")
    world.store.fault = refused
    cluster, reported, queue = world.cluster, list[Exception | None](), WorkQueue()
    resync = Resync(cluster, world.store, world.cache, queue, threads=world.threads, report=reported.append)

    async def goes_on() -> None:
        await until(lambda: cluster.lists > 3 and reported[3:])
        assert set(reported) == {refused}
        world.store.fault = None
        cluster.fault = KUBERNETES_AWAY
        assert (await queue.take()).video_id == video_id
        assert reported[-1] is None

    async def both() -> None:
        await asyncio.gather(resync.compare(), resync.relist())

    asyncio.run(beside(both(), goes_on))


def test_while_the_crd_is_missing_the_cache_is_empty_and_it_is_filled_once_the_crd_exists(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anb_operator.resync.PAUSE_SECONDS", 0.001)
    world.cache.created(world.cluster.apply("a", {"videoId": "a"}))
    world.cluster.fault = Missing("no_videojobs", "This cluster knows no VideoJobs.")
    resync = Resync(world.cluster, world.store, world.cache, WorkQueue(), threads=world.threads, report=lambda _: None)
    beats: list[bool] = []

    async def scenario() -> None:
        waiting = asyncio.create_task(resync.wait_for_videojobs(beat=lambda: beats.append(True)))
        await until(lambda: beats[2:])
        assert not waiting.done()
        assert len(world.cache) == 0
        world.cluster.fault = None
        await waiting

    with capture_logs() as logs:
        asyncio.run(scenario())
    assert [videojob.metadata.name for videojob in world.cache.of("a")] == ["a"]
    assert [line["reason"] for line in logs] == ["This cluster knows no VideoJobs."]


def test_all_unfinished_videos_are_compared_page_by_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anb_operator.resync.PAGE", 2)
    unfinished = {uploaded(world.store) for _ in range(5)}
    processed(world.store)

    async def scenario() -> None:
        queue, reported = WorkQueue(), list[Exception | None]()
        resync = Resync(world.cluster, world.store, world.cache, queue, threads=world.threads, report=reported.append)

        async def all_are() -> None:
            await until(lambda: reported)
            assert {(await queue.take()).video_id for _ in range(len(queue))} == unfinished

        await beside(resync.compare(), all_are)

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


@pytest.mark.parametrize("error", [KUBERNETES_AWAY, RuntimeError("a defect")])
def test_a_video_that_fails_is_tried_again_and_does_not_stop_the_others(error: Exception) -> None:
    calls: list[str] = []

    async def flaky(video_id: str, *, news: bool) -> float | None:
        calls.append(video_id)
        assert news is False
        if calls == ["bad"]:
            raise error
        # The result 0.0 asks for another reconciliation of "good" at once.
        return 0.0 if video_id == "good" and calls.count("good") == 1 else None

    async def scenario() -> None:
        queue = WorkQueue(jitter=lambda: 0.0)
        queue.add("bad")
        queue.add("good")

        async def all_done() -> None:
            await until(lambda: calls.count("bad") == 2 and calls.count("good") == 2)

        await beside(reconcile_worker(queue, flaky, metrics), all_done)

    metrics = Metrics()
    with capture_logs() as logs:
        asyncio.run(scenario())
    sample = metrics.registry.get_sample_value
    assert sample("anb_operator_reconciles_total", {"outcome": "done"}) == 3
    failed = "kubernetes_away" if isinstance(error, Unavailable) else "error"
    assert sample("anb_operator_reconciles_total", {"outcome": failed}) == 1
    assert [line["video_id"] for line in logs if line["event"] == "not mirrored"] == ["bad"]


def test_an_unreadable_video_is_counted_and_does_not_hold_up_the_feed(world: World) -> None:
    uploaded(world.store)
    [event, *_] = world.store.events_after(0, limit=1)
    calls: list[str] = []
    queue = WorkQueue(jitter=lambda: 0.0)

    async def reads(video_id: str, *, news: bool) -> float | None:
        calls.append(f"{video_id} {news}")
        if video_id == "newer":
            raise Unreadable("video_unreadable", "This version can't read video newer.")
        return None

    async def scenario() -> None:
        queue.add("newer", event)
        queue.add("other", event)

        async def all_done() -> None:
            await until(lambda: queue.pending() is None)

        await beside(reconcile_worker(queue, reads, metrics), all_done)

    metrics = Metrics()
    asyncio.run(scenario())
    assert calls == ["newer True", "other True"]
    assert metrics.registry.get_sample_value("anb_operator_reconciles_total", {"outcome": "unreadable"}) == 1


def test_the_mirror_time_is_measured_for_events_of_the_feed_only(world: World) -> None:
    uploaded(world.store)
    [event, *_] = world.store.events_after(0, limit=1)
    hour_ago = replace(event, at=datetime.now(UTC) - HOUR)
    metrics = Metrics()
    calls: list[str] = []

    async def fails_first(video_id: str, *, news: bool) -> float | None:
        assert news == (video_id == "from the feed")
        calls.append(video_id)
        if calls == ["from the feed"]:
            raise KUBERNETES_AWAY
        return None

    async def scenario() -> None:
        queue = WorkQueue(jitter=lambda: 0.0)
        queue.add("from the feed", hour_ago)
        queue.add("compared")

        async def all_done() -> None:
            await until(lambda: calls.count("from the feed") == 2 and "compared" in calls)

        await beside(reconcile_worker(queue, fails_first, metrics), all_done)

    asyncio.run(scenario())
    shown = metrics.registry.get_sample_value
    assert shown("anb_operator_mirror_seconds_count") == 1
    assert (shown("anb_operator_mirror_seconds_sum") or 0) >= HOUR.total_seconds()


@pytest.mark.parametrize(
    ("busy", "costs", "written"),
    [
        (set(), {}, {}),
        ({"a"}, {"a": None, "b": None}, {"a": BUSY}),
        ({"a"}, {"a": BUSY, "b": BUSY}, {"b": None}),
        ({"a"}, {"a": BUSY, "b": None}, {}),
        ({"a"}, {"a": "7"}, {"a": BUSY}),
        ({"gone"}, {"a": None}, {}),
    ],
)
def test_only_costs_that_change_are_written(
    busy: set[str], costs: dict[str, str | None], written: dict[str, str | None]
) -> None:
    assert plan_costs(busy, costs) == written


def test_busy_pods_are_marked_and_idle_ones_are_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anb_operator.deletion_costs.PAUSE_SECONDS", 0.001)
    world.cluster.pods = {"worker-1": {}, "worker-2": {"other": "kept"}}
    lease = processing(world.store)

    async def scenario() -> None:
        pods = DeletionCosts(world.store, world.cluster, selector="app=worker", threads=world.threads)

        async def follows() -> None:
            await until(lambda: world.cluster.pods["worker-1"] == {DELETION_COST: BUSY})
            world.cluster.fault = KUBERNETES_AWAY
            world.store.publish(lease, result(lease))
            pods.wake()
            await asyncio.sleep(0.01)
            world.cluster.fault = None
            # The operator does not know worker-3 yet, because it has not listed the pods since worker-3 was created.
            world.cluster.pods["worker-3"] = {}
            claim(world.store, uploaded(world.store), worker="worker-3")
            pods.wake()
            await until(lambda: world.cluster.pods["worker-3"] == {DELETION_COST: BUSY})
            assert world.cluster.pods["worker-1"] == {}
            assert world.cluster.pods["worker-2"] == {"other": "kept"}

        await beside(pods.run(), follows)

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [KUBERNETES_AWAY, KubeRefused("refused", "may not"), RuntimeError("no such table")])
def test_a_cost_that_could_not_be_written_is_written_without_another_event(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr("anb_operator.deletion_costs.PAUSE_SECONDS", 0.001)
    world.cluster.pods = {"worker-1": {}}

    async def scenario() -> None:
        pods = DeletionCosts(world.store, world.cluster, selector="app=worker", threads=world.threads)

        async def written() -> None:
            await until(lambda: world.cluster.lists)
            world.cluster.fault = error
            processing(world.store)
            pods.wake()
            await until(lambda: world.cluster.refused)
            world.cluster.fault = None
            await until(lambda: world.cluster.pods["worker-1"] == {DELETION_COST: BUSY})

        await beside(pods.run(), written)

    asyncio.run(scenario())


def test_a_pod_whose_cost_is_refused_does_not_hold_up_other_pods(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anb_operator.deletion_costs.PAUSE_SECONDS", 0.001)
    annotate = world.cluster.annotate_pod

    async def refuses_one(name: str, annotations: Mapping[str, str | None]) -> None:
        if name == "worker-1":
            raise KubeRefused("refused", "a policy forbids it")
        await annotate(name, annotations)

    monkeypatch.setattr(world.cluster, "annotate_pod", refuses_one)
    world.cluster.pods = {"worker-1": {}, "worker-2": {}}
    for worker in ("worker-1", "worker-2"):
        claim(world.store, uploaded(world.store), worker=worker)

    async def scenario() -> None:
        pods = DeletionCosts(world.store, world.cluster, selector="app=worker", threads=world.threads)

        async def written() -> None:
            await until(lambda: world.cluster.pods["worker-2"] == {DELETION_COST: BUSY})

        pods.wake()
        await beside(pods.run(), written)

    with capture_logs() as logs:
        asyncio.run(scenario())
    assert [line["reason"] for line in logs if line["event"] == "deletion costs can't be written"] == [
        "a policy forbids it"
    ]


def test_the_pause_grows_while_pods_cannot_be_listed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anb_operator.deletion_costs.PAUSE_SECONDS", 0.001)
    failures_in_a_row: list[int] = []

    def delay(failures: int, jitter: float) -> float:  # noqa: ARG001 - the signature of plan_delay
        failures_in_a_row.append(failures)
        return 0.001

    monkeypatch.setattr("anb_operator.deletion_costs.plan_delay", delay)
    world.cluster.fault = KubeRefused("refused", "pods is forbidden")

    async def scenario() -> None:
        pods = DeletionCosts(world.store, world.cluster, selector="app=worker", threads=world.threads)

        async def grows() -> None:
            await until(lambda: failures_in_a_row[3:])
            assert failures_in_a_row[:4] == [1, 2, 3, 4]
            world.cluster.pods = {"worker-1": {}}
            lease = processing(world.store)
            world.cluster.fault = None
            await until(lambda: world.cluster.pods["worker-1"])
            world.cluster.fault = KUBERNETES_AWAY
            failures_in_a_row.clear()
            world.store.publish(lease, result(lease))
            pods.wake()
            await until(lambda: failures_in_a_row)
            assert failures_in_a_row[0] == 1

        await beside(pods.run(), grows)

    asyncio.run(scenario())


def health(world: World, silence: Callable[[], float] = lambda: 0.0) -> Health:
    async def database() -> None:
        world.store.ping()

    async def bucket() -> None:
        world.objects.ping()

    return Health(
        watch_silence=silence,
        parts={"database": database, "bucket": bucket},
        registry=Metrics().registry,
        monotonic=world.clock.monotonic,
    )


def test_a_feed_that_is_not_read_is_stuck(world: World) -> None:
    shown = health(world)
    world.clock.advance(FEED_PATIENCE * SECOND)
    assert shown.stuck() is None
    world.clock.advance(SECOND)
    assert shown.stuck() == "the feed was not read for 91 s"
    shown.beat()
    assert shown.stuck() is None


def test_a_watch_that_shows_nothing_is_stuck(world: World) -> None:
    assert health(world, lambda: WATCH_PATIENCE).stuck() is None
    assert health(world, lambda: WATCH_PATIENCE + 1).stuck() == "the watch has not shown what was written 121 s ago"


@pytest.mark.parametrize("path", ["healthz", "readyz", "metrics"])
def test_no_answer_keeps_its_connection_alive(world: World, path: str) -> None:
    answer = asyncio.run(getattr(health(world), path)(make_mocked_request("GET", f"/{path}")))
    assert (answer.status, answer.keep_alive) == (200, False)


def test_an_unavailable_part_is_named_and_does_not_count_as_stuck(world: World) -> None:
    shown = health(world)
    assert asyncio.run(shown.missing()) == []
    world.objects.fault = Unavailable("bucket", "no answer")
    assert asyncio.run(shown.missing()) == ["the bucket does not answer"]
    world.store.fault = DATABASE_AWAY
    assert asyncio.run(shown.missing()) == ["the database does not answer", "the bucket does not answer"]
    assert shown.stuck() is None


def test_a_read_that_fails_although_all_parts_answer_is_named_and_logged_once(world: World) -> None:
    shown = health(world)
    error = RuntimeError('permission denied for table "jobs"\n[SQL: SELECT ...]')
    with capture_logs() as logs:
        for _ in range(3):
            shown.report("feed", error)
    assert asyncio.run(shown.missing()) == ['the feed can\'t be read: permission denied for table "jobs"']
    assert len(logs) == 1
    world.store.fault = DATABASE_AWAY
    assert asyncio.run(shown.missing()) == ["the database does not answer"]
    world.store.fault = None
    shown.report("feed", None)
    assert asyncio.run(shown.missing()) == []
