"""Drills: a deployment moves from one queue to another while uploads keep coming, as docs/migration.md says."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from redis import Redis

from anb_core.domain.status import Status
from anb_core.testing.promises import check_promises
from tests.integration.worker.celery_programs import CeleryPrograms
from tests.integration.worker.conftest import MakeSite, Site
from tests.integration.worker.moving import Moving
from tests.support import eventually
from tests.support.brokers import running_redis
from tests.support.tether import free_port

pytestmark = pytest.mark.chaos


@pytest.fixture
def site(make_site: MakeSite, postgres_url: str, ministack_url: str) -> Iterator[Site]:
    with make_site(postgres_url, ministack_url) as site:
        yield site


@pytest.fixture(params=["redis_url", pytest.param("rabbitmq_url", marks=pytest.mark.debian)])
def celery_url(request: pytest.FixtureRequest) -> str:
    """The URL of a Celery broker: Redis, and in `make test-debian` also RabbitMQ."""
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def moving(site: Site) -> Iterator[Moving]:
    with Moving(site) as moving:
        yield moving


@pytest.fixture
def sqs(site: Site) -> dict[str, str]:
    """Environment variables of programs whose only queue is on SQS."""
    return {"SQS_QUEUE_URL": site.parts.queue.name}


def only_on_celery(url: str) -> dict[str, str]:
    """Environment variables of programs whose only queue is on a Celery broker."""
    return {"SQS_QUEUE_URL": "", "CELERY_BROKER_URL": url}


def let_visibility_timeouts_end(url: str) -> None:
    """Make Redis return the messages that our workers received. RabbitMQ has no such timeout."""
    if not url.startswith("redis:"):
        return
    received = f"{os.environ['CELERY_TASK_DEFAULT_QUEUE']}.anb.unacked_index"
    with Redis.from_url(url) as client:
        for tag in client.zrange(received, 0, -1):
            client.zadd(received, {tag: 0}, xx=True)


def test_celery_programs_are_replaced_and_the_deployment_moves_to_sqs(
    site: Site, moving: Moving, celery_url: str, sqs: dict[str, str]
) -> None:
    adopting = {"ANB_ADOPT_OWNER": "older", "CELERY_BROKER_URL": celery_url}
    with CeleryPrograms(site, celery_url) as older:
        eventually(lambda: len(older.done()) >= 3)
        older.hold_worker()
        moving.start_workers(adopting | only_on_celery(celery_url))
        # The Celery worker also receives some tasks in advance. Our workers receive the next ones.
        eventually(lambda: site.parts.store.listing(owner="older", statuses={Status.PROCESSED}))
        older.kill_worker()
        if celery_url.startswith("redis:"):
            assert older.return_held_messages() == 1
        moving.start_api(only_on_celery(celery_url))
        moving.move(adopting | sqs)
    eventually(lambda: len(older.done()) + len(site.parts.store.listing(owner="older", limit=1000)) >= len(older.sent))
    let_visibility_timeouts_end(celery_url)
    eventually(lambda: (moving.broker("old") or {})["may_be_switched_off"], every=0.2)
    moving.move(sqs)
    moving.finish(sqs)

    adopted = {record.video.id for record in site.parts.store.listing(owner="older", limit=1000)}
    assert sorted([*older.done(), *adopted]) == sorted(older.sent)


def test_a_redis_that_forgets_its_messages_during_the_move_delays_videos_only(
    site: Site, moving: Moving, sqs: dict[str, str]
) -> None:
    with ExitStack() as stack:
        server, port = stack.enter_context(ExitStack()), free_port()
        url = server.enter_context(running_redis(port=port))

        def restart() -> None:
            server.close()
            stack.enter_context(running_redis(port=port))

        moving.start_workers(only_on_celery(url))
        moving.start_api(only_on_celery(url))
        moving.move(sqs | {"CELERY_BROKER_URL": url}, meanwhile=restart)
        assert len(site.parts.store.listing(owner="ana", statuses={Status.UPLOADED})) >= 3
        moving.finish(sqs)


def test_a_deployment_goes_back_from_sqs_to_celery_and_the_messages_left_on_sqs_change_nothing_later(
    site: Site, moving: Moving, celery_url: str, sqs: dict[str, str]
) -> None:
    moving.start_workers(sqs)
    moving.start_api(sqs)
    moving.move(only_on_celery(celery_url))
    eventually(lambda: moving.broker("removed") is None, every=0.2)
    moving.finish(only_on_celery(celery_url))
    at_rest = site.evidence()

    assert site.parts.queue.depth().visible >= 2
    worker = site.held_worker(**sqs)
    eventually(lambda: site.parts.queue.depth().visible == 0)
    worker.send(signal.SIGTERM)
    assert worker.exit_code() == 0
    check_promises(site.evidence(), site.policy, at_rest=True, earlier=at_rest)
