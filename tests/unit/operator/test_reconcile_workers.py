"""Tests of the operator's reconcile workers while the Kubernetes API server refuses or does not answer requests."""

import asyncio

import pytest

from anb_core.domain.errors import Unavailable
from anb_core.domain.status import Status
from anb_operator.metrics import Metrics
from anb_operator.reconcile_workers import reconcile_worker
from anb_operator.workqueue import WorkQueue
from tests.support.given import processing
from tests.unit.operator.conftest import World


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
        await reconcile_worker(queue, turn, Metrics())

    monkeypatch.setattr("random.random", lambda: 0.0)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(scenario())
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, *[5.0] * 7]


def test_an_event_that_can_not_be_posted_now_does_not_hold_up_the_mirror(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def throttled(*_: object) -> None:
        raise Unavailable("kubernetes", "too many requests")

    monkeypatch.setattr(world.cluster, "post_event", throttled)
    lease = processing(world.store)
    world.follow()
    assert world.cluster.get(lease.video_id).status.phase is Status.PROCESSING
