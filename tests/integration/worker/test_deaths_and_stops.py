import signal
from collections.abc import Sequence
from datetime import timedelta

import pytest
import sqlalchemy

from anb_cli.emulator import Emulator
from anb_core.adapters.database.rows import lock
from anb_core.adapters.system import SystemRuntime
from anb_core.domain.model import Counters, Ending
from anb_core.domain.status import Status
from anb_core.ports.queue import Outgoing, QueueSender
from anb_core.usecases.relay import Relay
from tests.integration.worker.conftest import LEASE, Site
from tests.support import eventually

pytestmark = pytest.mark.chaos


def test_a_video_whose_message_was_never_sent_is_processed_too(site: Site) -> None:
    """Only the relay of the worker can send the message of the upload, because the test runs no API."""
    site.let_go()
    video = site.upload(b"holiday")
    worker = site.held_worker()

    job = site.until(video, Status.PROCESSED)
    assert job.result is not None
    assert site.results(video) == [job.result.key]
    eventually(lambda: site.parts.queue.depth().empty)
    eventually(lambda: "processed in" in worker.log)
    assert site.left_on_disk() == []

    worker.send(signal.SIGTERM)
    assert worker.exit_code() == 0
    assert {path.name for path in site.tmpdir.glob("anb-worker-*/*")} == {"cache", "lock"}


def test_a_worker_that_is_killed_in_mid_render_is_replaced_with_no_api_running(postgresql_site: Site) -> None:
    site = postgresql_site
    video = site.upload()
    first, second = site.two_held_workers(video, ANB_SWEEP_SECONDS="1")
    first.kill()
    site.database.pass_time(LEASE)

    eventually(site.held(second).exists)
    site.let_go()
    job = site.until(video, Status.PROCESSED)
    assert job.counters == Counters(lost=1)
    endings = [attempt.ending for attempt in site.parts.store.history(video).attempts]
    assert endings == [Ending.LOST, Ending.PROCESSED]
    assert len(site.results(video)) == 1


@pytest.mark.parametrize("step", ["publish", "delete"])
def test_a_worker_that_dies_with_the_work_done_leaves_one_result(site: Site, step: str) -> None:
    site.let_go()
    video = site.upload()
    assert site.held_worker(die_at=step).exit_code() == -signal.SIGKILL
    site.database.pass_time(LEASE)
    site.held_worker()

    job = site.until(video, Status.PROCESSED)
    assert job.result is not None
    due = site.parts.store.hold_deletions(limit=10, hold=timedelta(minutes=1))
    site.parts.objects.delete([deletion.key for deletion in due])
    assert site.results(video) == [job.result.key]
    assert job.counters == Counters(lost=0 if step == "delete" else 1)


def test_sigterm_in_mid_render_hands_the_job_on_at_once_and_counts_no_failure(site: Site) -> None:
    video = site.upload()
    first, second = site.two_held_workers(video, ANB_DRAIN_SECONDS="0")

    first.send(signal.SIGTERM)
    site.until_rendering(second, video)
    assert first.exit_code() == 0
    site.let_go()
    job = site.until(video, Status.PROCESSED)
    assert job.counters == Counters(interruptions=1)
    endings = [attempt.ending for attempt in site.parts.store.history(video).attempts]
    assert endings == [Ending.INTERRUPTED, Ending.PROCESSED]
    eventually(lambda: site.parts.queue.depth().empty)


def test_a_job_that_ends_within_the_drain_budget_is_finished_and_nothing_else_is_begun(site: Site) -> None:
    video = site.upload()
    worker = site.held_worker()
    site.until_rendering(worker, video)
    worker.send(signal.SIGINT)
    eventually(lambda: "no more jobs are begun" in worker.log)
    another = site.upload()
    site.let_go()

    assert worker.exit_code() == 0
    assert site.job(video).status is Status.PROCESSED
    assert site.job(video).counters == Counters()
    assert site.job(another).status is Status.UPLOADED


def test_a_second_signal_hands_the_job_on_at_once(site: Site) -> None:
    video = site.upload()
    worker = site.held_worker()
    site.until_rendering(worker, video)
    worker.send(signal.SIGTERM)
    eventually(lambda: "no more jobs are begun" in worker.log)
    worker.send(signal.SIGTERM)

    assert worker.exit_code() == 0
    job = site.job(video)
    assert (job.status, job.counters, job.lease_owner) == (Status.PROCESSING, Counters(interruptions=1), None)
    assert site.parts.queue.depth().visible == 1, "the message was sent before the worker went"


def test_a_cancelled_render_ends_and_the_worker_takes_the_next_job(site: Site) -> None:
    video = site.upload()
    worker = site.held_worker()
    site.until_rendering(worker, video)
    site.parts.store.cancel(video)
    eventually(lambda: "took the job over" in worker.log)
    assert site.left_on_disk() == []

    site.let_go()
    next_video = site.upload()
    site.until(next_video, Status.PROCESSED)
    assert site.job(video).status is Status.CANCELLED
    assert site.results(video) == []


def test_a_worker_waits_for_a_row_that_another_transaction_locks(postgresql_site: Site) -> None:
    site = postgresql_site
    site.let_go()
    video = site.upload()
    with site.database.database.transaction() as holder:
        lock(holder, video)
        worker = site.held_worker()
        eventually(lambda: "claiming is tried again" in worker.log)

    site.until(video, Status.PROCESSED)
    eventually(lambda: site.parts.queue.depth().empty)
    assert "given back" not in worker.log


class Fourfold:
    """A queue sender that sends each message four times."""

    def __init__(self, queue: QueueSender) -> None:
        self.name = queue.name
        self._queue = queue

    def send(self, batch: Sequence[Outgoing]) -> Sequence[str | None]:
        return [self._queue.send([message] * 4)[0] for message in batch]


def test_duplicate_messages_change_nothing(site: Site) -> None:
    video = site.upload()
    sender = Fourfold(site.parts.queue)
    Relay(site.parts.store, sender, bucket=site.parts.objects.bucket, runtime=SystemRuntime()).send_due()
    site.held_worker()
    site.held_worker()
    eventually(lambda: len(list(site.folder.glob("rendering-*"))) == 1)
    eventually(lambda: site.parts.queue.depth().visible == 0)
    site.let_go()

    job = site.until(video, Status.PROCESSED)
    eventually(lambda: site.parts.queue.depth().empty)
    assert job.counters == Counters()
    assert job.attempts == 1
    assert len(site.results(video)) == 1


def test_database_connections_that_break_in_mid_job_cost_nothing(postgresql_site: Site, postgres_url: str) -> None:
    site = postgresql_site
    video = site.upload()
    worker = site.held_worker()
    site.until_rendering(worker, video)
    engine = sqlalchemy.create_engine(postgres_url)
    with engine.connect() as connection:
        broken = connection.execute(
            sqlalchemy.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        ).fetchall()
    engine.dispose()
    assert len(broken) > 1
    site.let_go()

    job = site.until(video, Status.PROCESSED)
    assert (job.counters, job.attempts) == (Counters(), 1)


def test_a_bucket_and_queue_that_go_away_in_mid_job_lose_nothing(
    interruptible_site: Site, own_emulator: Emulator
) -> None:
    site = interruptible_site
    video, waiting = site.upload(), site.upload()
    worker = site.held_worker()
    site.until_rendering(worker, video)
    own_emulator.stop()
    site.let_go()
    eventually(lambda: "the bucket is away" in worker.log)
    own_emulator.start()

    for one in (video, waiting):
        job = site.until(one, Status.PROCESSED)
        assert job.counters.failures == job.counters.lost == 0


def test_a_silent_worker_is_not_waited_for_longer_than_its_lease(site: Site) -> None:
    """The first worker is frozen with SIGSTOP, and resumed with SIGCONT after another worker has claimed the job."""
    video = site.upload()
    first, second = site.two_held_workers(video)
    site.silence(first)
    site.database.pass_time(LEASE)
    site.until_rendering(second, video)
    first.send(signal.SIGCONT)
    eventually(lambda: "took the job over" in first.log)
    site.let_go()

    job = site.until(video, Status.PROCESSED)
    assert job.worker is None
    assert [attempt.worker for attempt in site.parts.store.history(video).attempts] == [first.name, second.name]
    assert len(site.results(video)) == 1
