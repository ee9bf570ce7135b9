"""Tests of the metrics that the operator sends to CloudWatch."""

import asyncio
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from anb_core.domain.errors import Unavailable
from anb_core.testing.metrics import InMemoryMetrics
from anb_operator.cloudwatch import CloudWatchPublisher
from anb_operator.kube import KubeRefused, Scale
from tests.support.given import dead_lettered, uploaded
from tests.unit.operator.conftest import DATABASE_AWAY, KUBERNETES_AWAY, World, beside, until


@pytest.fixture
def sink() -> InMemoryMetrics:
    return InMemoryMetrics()


def publisher(world: World, sink: InMemoryMetrics, *, workers: str | None = "anb-worker") -> CloudWatchPublisher:
    """Return the publisher of the world's metrics. Its clock is the manual clock."""
    return CloudWatchPublisher(
        world.store,
        world.cluster,
        sink,
        workers=workers,
        threads=world.threads,
        clock=lambda: world.clock.now().timestamp(),
    )


def test_the_operator_sends_what_the_alarms_compare(world: World, sink: InMemoryMetrics) -> None:
    world.cluster.scales["anb-worker"] = Scale(2, 3)
    dead_lettered(world.store)
    uploaded(world.store)
    world.clock.advance(timedelta(minutes=20))
    uploaded(world.store)
    asyncio.run(publisher(world, sink).publish())
    assert sink.published == [{"OpenDeadLetters": 1, "OldestWaitingSeconds": 1200, "Workers": 2, "WorkersMax": 3}]


def test_without_work_and_dead_letters_the_metrics_are_zero_and_not_missing(
    world: World, sink: InMemoryMetrics
) -> None:
    world.cluster.scales["anb-worker"] = Scale(0, 3)
    asyncio.run(publisher(world, sink).publish())
    assert sink.published == [{"OpenDeadLetters": 0, "OldestWaitingSeconds": 0, "Workers": 0, "WorkersMax": 3}]


def test_a_fixed_number_of_workers_has_no_maximum(world: World, sink: InMemoryMetrics) -> None:
    world.cluster.scales["anb-worker"] = Scale(2, None)
    asyncio.run(publisher(world, sink).publish())
    assert sink.published == [{"OpenDeadLetters": 0, "OldestWaitingSeconds": 0, "Workers": 2}]


def test_without_the_name_of_their_deployment_workers_are_not_counted(world: World, sink: InMemoryMetrics) -> None:
    asyncio.run(publisher(world, sink, workers=None).publish())
    assert sink.published == [{"OpenDeadLetters": 0, "OldestWaitingSeconds": 0}]


def test_an_outage_of_the_database_leaves_out_only_what_the_database_knows(
    world: World, sink: InMemoryMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.cluster.scales["anb-worker"] = Scale(2, 3)

    def fail() -> timedelta:
        raise DATABASE_AWAY

    monkeypatch.setattr(world.store, "longest_wait", fail)
    with capture_logs() as logs:
        asyncio.run(publisher(world, sink).publish())
    assert sink.published == [{"Workers": 2, "WorkersMax": 3}]
    assert [(line["event"], line["reason"]) for line in logs] == [
        ("metrics can't be measured", DATABASE_AWAY.message),
    ]


@pytest.mark.parametrize("fault", [KUBERNETES_AWAY, KubeRefused("refused", "may not")])
def test_an_outage_of_kubernetes_leaves_out_only_the_workers(
    world: World, sink: InMemoryMetrics, fault: Exception
) -> None:
    world.cluster.fault = fault
    asyncio.run(publisher(world, sink).publish())
    assert sink.published == [{"OpenDeadLetters": 0, "OldestWaitingSeconds": 0}]


def test_nothing_is_sent_if_nothing_can_be_measured(
    world: World, sink: InMemoryMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> timedelta:
        raise DATABASE_AWAY

    monkeypatch.setattr(world.store, "longest_wait", fail)
    asyncio.run(publisher(world, sink, workers=None).publish())
    assert sink.published == []


def test_metrics_are_sent_at_the_beginning_of_each_minute_also_after_a_refusal(
    world: World, sink: InMemoryMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def pass_time(seconds: float) -> None:
        if seconds > 1:
            pauses.append(seconds)
            world.clock.advance(timedelta(seconds=seconds + 7.5))
        await sleep(0)

    monkeypatch.setattr("anb_operator.cloudwatch.asyncio.sleep", pass_time)
    sink.fault = Unavailable("metrics", "CloudWatch refuses PutMetricData: AccessDenied")

    async def two_values_arrive() -> None:
        await until(lambda: pauses)
        assert sink.published == []
        sink.fault = None
        await until(lambda: sink.published[1:])

    with capture_logs() as logs:
        asyncio.run(beside(publisher(world, sink, workers=None).run(), two_values_arrive))
    assert logs[0]["event"] == "metrics can't be sent to CloudWatch"
    assert logs[0]["reason"] == "CloudWatch refuses PutMetricData: AccessDenied"
    # Sending a value takes 7.5 s here. So every pause after the first one is shorter than a minute by this time.
    assert set(pauses[1:]) == {52.5}
