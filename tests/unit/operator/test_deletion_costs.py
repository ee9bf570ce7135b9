"""Tests of the deletion costs of worker pods."""

import asyncio
from collections.abc import Mapping

import pytest
from structlog.testing import capture_logs

from anb_operator.deletion_costs import BUSY, DELETION_COST, DeletionCosts, plan_costs
from anb_operator.kube import KubeRefused
from tests.support.given import claim, processing, result, uploaded
from tests.unit.operator.conftest import KUBERNETES_AWAY, World, beside, until


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
            # worker-3 starts after the operator listed the pods, so the operator must list the pods again.
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
