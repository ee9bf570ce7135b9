"""Tests of the operator's health checks."""

import asyncio
from collections.abc import Callable

import pytest
from aiohttp.test_utils import make_mocked_request
from structlog.testing import capture_logs

from anb_core.domain.errors import Unavailable
from anb_operator.health import FEED_PATIENCE, WATCH_PATIENCE, Health
from anb_operator.metrics import Metrics
from tests.support.given import SECOND
from tests.unit.operator.conftest import DATABASE_AWAY, World


def health(world: World, silence: Callable[[], float] = lambda: 0.0, outages: Callable[[], list[str]] = list) -> Health:
    async def database() -> None:
        world.store.ping()

    async def bucket() -> None:
        world.objects.ping()

    return Health(
        watch_silence=silence,
        parts={"database": database, "bucket": bucket},
        registry=Metrics(world.store).registry,
        outages=outages,
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


def test_a_part_that_is_not_required_is_told_and_changes_neither_readiness_nor_liveness(world: World) -> None:
    outages: list[str] = []
    shown = health(world, outages=lambda: outages)
    request = make_mocked_request("GET", "/readyz")
    assert asyncio.run(shown.readyz(request)).text == "ok\n"
    outages.append("the dead-letter queue does not answer")
    answer = asyncio.run(shown.readyz(request))
    assert (answer.status, answer.text) == (200, "ok\nnot required: the dead-letter queue does not answer\n")
    world.objects.fault = Unavailable("bucket", "no answer")
    answer = asyncio.run(shown.readyz(request))
    assert (answer.status, (answer.text or "").splitlines()[0]) == (503, "the bucket does not answer")
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
