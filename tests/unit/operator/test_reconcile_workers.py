"""Tests of the operator's reconcile workers: pauses during outages, and videos that fail."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from anb_core.domain.errors import Unavailable, Unreadable
from anb_core.testing.store import InMemoryStore
from anb_operator.metrics import Metrics
from anb_operator.reconcile_workers import reconcile_worker
from anb_operator.workqueue import WorkQueue
from tests.support.given import HOUR, uploaded
from tests.unit.operator.conftest import DATABASE_AWAY, KUBERNETES_AWAY, World, beside, until


def test_a_writer_pauses_ever_longer_while_kubernetes_does_not_answer_and_no_more_when_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    turns: list[str] = []

    async def slept(seconds: float) -> None:
        pauses.append(seconds)

    async def turn(video_id: str, *, news: bool) -> None:  # noqa: ARG001 - the signature of reconcile
        turns.append(video_id)
        if len(turns) <= 12:
            raise Unavailable("kubernetes", "away")
        if len(turns) == 20:
            raise asyncio.CancelledError

    async def scenario() -> None:
        queue = WorkQueue()
        for number in range(20):
            queue.add(f"v{number}")
        monkeypatch.setattr(asyncio, "sleep", slept)
        await reconcile_worker(queue, turn, Metrics(InMemoryStore()))

    monkeypatch.setattr("random.random", lambda: 0.0)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(scenario())
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, *[5.0] * 7]


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

        await beside(reconcile_worker(queue, away, Metrics(InMemoryStore())), writers_pause)

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [KUBERNETES_AWAY, RuntimeError("a defect")])
def test_a_video_that_fails_is_tried_again_and_does_not_stop_the_others(error: Exception) -> None:
    calls: list[str] = []

    async def flaky(video_id: str, *, news: bool) -> float | None:
        calls.append(video_id)
        assert news is False
        if calls == ["bad"]:
            raise error
        # The result 0.0 requests an immediate second reconciliation of "good".
        return 0.0 if video_id == "good" and calls.count("good") == 1 else None

    async def scenario() -> None:
        queue = WorkQueue(jitter=lambda: 0.0)
        queue.add("bad")
        queue.add("good")

        async def all_done() -> None:
            await until(lambda: calls.count("bad") == 2 and calls.count("good") == 2)

        await beside(reconcile_worker(queue, flaky, metrics), all_done)

    metrics = Metrics(InMemoryStore())
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

    metrics = Metrics(InMemoryStore())
    asyncio.run(scenario())
    assert calls == ["newer True", "other True"]
    assert metrics.registry.get_sample_value("anb_operator_reconciles_total", {"outcome": "unreadable"}) == 1


def test_the_mirror_time_is_measured_for_events_of_the_feed_only(world: World) -> None:
    uploaded(world.store)
    [event, *_] = world.store.events_after(0, limit=1)
    hour_ago = replace(event, at=datetime.now(UTC) - HOUR)
    metrics = Metrics(InMemoryStore())
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
