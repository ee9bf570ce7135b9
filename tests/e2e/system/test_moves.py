"""Tests that a release moves between SQS and Celery while uploads go on. Each step is a `helm upgrade`."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from anb_cli.client import Api
from anb_cli.connection import Connection
from anb_core.adapters.database.engine import Database
from anb_core.adapters.database.tables import jobs
from anb_core.domain.status import Status
from tests.support.probing import probing
from tests.support.release import QUEUES, Release
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(1800)

FIFO = f"queue.url={QUEUES}/anb-video-processing-queue.fifo"
# One worker for every three messages, so that the workers follow the messages on each broker within a minute.
SCALING = (
    "worker.autoscaling.policy=backlog",
    "worker.autoscaling.backlog.latencySeconds=60",
    "worker.autoscaling.backlog.jobSeconds=20",
    "worker.autoscaling.scaleDownAfterSeconds=15",
    "worker.autoscaling.scaleDownCooldownSeconds=15",
)
SHORT = {"trim": {"length": 3}}


@pytest.fixture
def usual_values_afterwards(release: Release) -> Iterator[None]:
    """Restore the release's values after the test."""
    yield
    release.up()


@pytest.fixture
def burst(upload: Callable[..., str], footage: Path) -> set[str]:
    """The ids of eight new videos. Most of them still wait on SQS when SQS is removed from the values."""
    return {upload(footage / "bikes.mp4", title=f"Number {number}", edit=SHORT) for number in range(8)}


@pytest.mark.usefixtures("usual_values_afterwards")
def test_on_the_way_from_sqs_to_celery_and_on_to_a_fifo_queue_no_upload_is_refused_and_no_video_is_lost(
    release: Release, burst: set[str], blink: Path, tmp_path: Path
) -> None:
    with (
        release.database() as database,
        probing(release.namespace, blink, tmp_path / "probe.json", seconds=5, keep=True) as probe,
    ):
        # Go back to Celery while jobs wait on SQS. They must be sent again, through Celery.
        release.up(*SCALING, broker="celery")
        eventually(lambda: release.workers() > 1, within=240, every=1)
        # Move to SQS as docs/migration.md says.
        release.up(*SCALING, FIFO, broker="both")
        eventually(lambda: _old_queue_may_be_switched_off(release), within=400, every=2)
        release.up(*SCALING, FIFO)
        so_far = len(probe.answers())
        eventually(lambda: len(probe.answers()) > so_far + 3, within=120, every=1)
        said = probe.stop()
        assert [line for line in said if not line.startswith("202 ")] == []
        uploaded = burst | {line.split()[2] for line in said}
        release.receipts.update(uploaded)
        eventually(lambda: _statuses(database, uploaded) == {Status.PROCESSED}, within=600, every=1)
        queues = _queues(database, uploaded)
    assert len(said) > 15
    assert [queue for queue in queues if queue.endswith("#celery")]
    assert [queue for queue in queues if queue.endswith(".fifo")]


def _old_queue_may_be_switched_off(release: Release) -> bool:
    """Ask the API as `anb broker status` does. Each call opens a new connection, because an upgrade replaces pods."""
    with release.namespace.forwarded("anb-api", 80) as url, Api(Connection(url, release.token())) as api:
        old = [broker for broker in api.brokers()["brokers"] if broker["role"] == "old"]
    # The response may come from a terminating pod of the previous step, which has no old queue.
    return bool(old) and old[0]["may_be_switched_off"]


def _statuses(database: Database, videos: Collection[str]) -> set[str]:
    with database.reading() as connection:
        return set(connection.scalars(select(jobs.c.status).where(jobs.c.video_id.in_(videos))))


def _queues(database: Database, videos: Collection[str]) -> set[str]:
    """Return the queues to which the last messages of the videos were sent."""
    with database.reading() as connection:
        return set(connection.scalars(select(jobs.c.enqueued_to).where(jobs.c.video_id.in_(videos))))
