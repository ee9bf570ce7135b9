"""Drills: a deployment moves from one queue to another while uploads keep coming, as docs/migration.md says."""

import signal
from collections.abc import Iterator

import pytest

from anb_core.testing.promises import check_promises
from tests.integration.worker.conftest import MakeSite, Site
from tests.integration.worker.moving import Moving
from tests.support import eventually


@pytest.fixture
def site(make_site: MakeSite, postgres_url: str, ministack_url: str) -> Iterator[Site]:
    with make_site(postgres_url, ministack_url) as site:
        yield site


@pytest.fixture(params=["redis_url", pytest.param("rabbitmq_url", marks=pytest.mark.debian)])
def celery_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


def test_a_deployment_goes_back_from_sqs_to_celery_and_the_messages_left_on_sqs_change_nothing_later(
    site: Site, celery_url: str
) -> None:
    sqs, celery = {"SQS_QUEUE_URL": site.parts.queue.name}, {"SQS_QUEUE_URL": "", "CELERY_BROKER_URL": celery_url}
    with Moving(site) as moving:
        moving.begin(sqs)
        moving.move(celery)
        moving.finish()
    at_rest = site.evidence()

    assert site.parts.queue.depth().visible >= 2
    worker = site.held_worker(**sqs)
    eventually(lambda: site.parts.queue.depth().visible == 0)
    worker.send(signal.SIGTERM)
    assert worker.exit_code() == 0
    check_promises(site.evidence(), site.policy, at_rest=True, earlier=at_rest)
