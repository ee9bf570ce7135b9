"""Tests that many uploads of one owner do not delay the videos of another owner for long."""

from collections.abc import Iterator

import pytest

from anb_core.domain.status import Status
from tests.integration.worker.conftest import MakeSite, Site
from tests.support import eventually

FEW = 3
LIMIT = 2 * FEW
"""With a lower limit, the owner with few uploads would soon have as many jobs in flight as the owner with many."""

MANY = 2 * LIMIT


@pytest.fixture(params=["redis_url", ""])
def site(request: pytest.FixtureRequest, make_site: MakeSite, sqlite_url: str, ministack_url: str) -> Iterator[Site]:
    """A test deployment whose queue is on a Celery broker, or on the emulator, which has no fair queues."""
    broker_url = request.param and request.getfixturevalue(request.param)
    with make_site(sqlite_url, ministack_url, broker_url=broker_url) as site:
        yield site


def test_another_owners_videos_begin_after_the_work_in_flight(site: Site) -> None:
    many = [site.upload(owner="ada") for _ in range(MANY)]
    worker = site.held_worker(ANB_QUEUE_LIMIT=str(LIMIT))
    eventually(site.held(worker).exists)
    # One job runs, and the relay has sent as many other messages as the queue has room for.
    in_flight = 1 + LIMIT
    eventually(lambda: len([video_id for video_id in many if site.job(video_id).enqueued_to]) == in_flight)

    few = [site.upload(owner="ben") for _ in range(FEW)]
    site.let_go()

    for video_id in (*many, *few):
        site.until(video_id, Status.PROCESSED)
    begun = {video_id: site.parts.store.history(video_id).attempts[0].started_at for video_id in (*many, *few)}
    order = sorted(begun, key=begun.__getitem__)
    last = max(order.index(video_id) for video_id in few)
    assert last < in_flight + FEW, [site.record(video_id).video.owner for video_id in order]
