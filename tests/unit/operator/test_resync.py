"""Tests of the resync, which compares the VideoJobs in the cluster with the unfinished videos."""

import asyncio

import pytest
from structlog.testing import capture_logs

from anb_core.domain.model import DeadLetterCause
from anb_operator.kube import Missing
from anb_operator.resync import Resync
from anb_operator.workqueue import WorkQueue
from tests.support.given import dead_lettered, processed, uploaded
from tests.unit.operator.conftest import KUBERNETES_AWAY, World, beside, until


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


def test_all_unfinished_videos_and_open_dead_letters_are_compared_page_by_page(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anb_operator.resync.PAGE", 2)
    unfinished = {made(world.store) for made in (uploaded, dead_lettered) for _ in range(5)}
    processed(world.store)
    dead_lettered(world.store)
    world.store.discard_dead_letter(6, by="ada", reason="It was a test.")
    world.store.record_dead_letter(cause=DeadLetterCause.UNREADABLE, message_id="m", body="?", detail="not JSON")

    async def scenario() -> None:
        queue, reported = WorkQueue(), list[Exception | None]()
        resync = Resync(world.cluster, world.store, world.cache, queue, threads=world.threads, report=reported.append)

        async def all_are() -> None:
            await until(lambda: reported)
            assert {(await queue.take()).video_id for _ in range(len(queue))} == unfinished

        await beside(resync.compare(), all_are)

    asyncio.run(scenario())
