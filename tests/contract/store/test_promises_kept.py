"""Tests that the checker of the promises finds nothing in runs in which every promise is kept."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from anb_core.adapters.system import new_id
from anb_core.domain.model import DeadLetterCause, Source
from anb_core.domain.retry import plan_outage
from anb_core.domain.status import Status
from anb_core.testing.promises import check_promises, read_evidence
from tests.contract.store.one_run import Run
from tests.support import given
from tests.support.given import (
    DAY,
    HOUR,
    POLICY,
    PROBLEM,
    interrupt,
    new_video,
    record_of,
    reject,
    result,
    uploading,
)
from tests.support.s3_notifications import notification, record
from tests.support.stores import Backend, Sql

Story = Callable[[Run], object]


def processed(run: Run) -> None:
    run.publish(run.upload())


def processed_by_its_message(run: Run) -> None:
    video_id = run.upload()
    run.relay.send_due()
    run.publish(video_id)
    run.take_message()


def processed_last_week(run: Run) -> None:
    processed_by_its_message(run)
    run.backend.pass_time(8 * DAY)


def processed_in_the_end(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id)
    run.lose(video_id)
    assert interrupt(run.store, run.claim(video_id))
    lease = run.claim(video_id)
    assert run.store.settle(lease, plan_outage(lease.counters, PROBLEM, POLICY, 1.0))
    run.backend.pass_time(HOUR)
    run.publish(video_id)


def rejected(run: Run) -> None:
    assert reject(run.store, run.claim(run.upload()))


def out_of_failures(run: Run) -> None:
    run.fail(run.upload(), times=POLICY.max_failures)


def out_of_losses(run: Run) -> None:
    run.lose(run.upload(), times=POLICY.max_lost)


def discarded(run: Run) -> None:
    out_of_failures(run)
    letter = run.backend.evidence().dead_letters[-1]
    run.store.discard_dead_letter(letter.id, by="ops", reason="The camera is broken.")


def forgotten(run: Run) -> None:
    discarded(run)
    run.sweep()
    run.backend.pass_time(DAY)
    run.sweep()
    run.backend.pass_time(90 * DAY)


def redriven(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id, times=POLICY.max_failures)
    letter = run.backend.evidence().dead_letters[-1]
    run.store.redrive_dead_letter(letter.id, by="ops")
    run.publish(video_id)


def retried(run: Run) -> None:
    video_id = run.upload()
    assert reject(run.store, run.claim(video_id))
    run.store.retry(video_id, by="ada")
    run.publish(video_id)


def cancelled(run: Run) -> None:
    run.store.cancel(run.upload())


def cancelled_in_mid_render(run: Run) -> None:
    run.store.cancel(run.claim(run.upload()).video_id)


def deleted(run: Run) -> None:
    run.store.delete(run.upload(), by="ada", grace=DAY)


def deleted_in_mid_render(run: Run) -> None:
    run.store.delete(run.claim(run.upload()).video_id, by="ada", grace=DAY)


def deleted_and_gone(run: Run) -> None:
    run.store.delete(run.publish(run.upload()).video_id, by="ada", grace=DAY)
    run.sweep()
    run.backend.pass_time(2 * DAY)


def deleted_with_its_objects_first(run: Run) -> None:
    run.relay.send_due()
    video_id = run.upload()
    run.relay.send_due()
    run.store.delete(run.publish(video_id).video_id, by="ada", grace=3 * DAY)
    run.take_message()
    run.backend.pass_time(2 * DAY)
    check_promises(run.evidence(), POLICY, at_rest=True)
    run.backend.pass_time(DAY)
    run.delete_objects()


def deleted_without_the_source_of_others(run: Run) -> None:
    new = new_video(owned=False)
    run.objects.put(new.source_key, b"video")
    run.store.submit_existing(new, Source(5))
    run.store.delete(new.id, by="ada", grace=DAY)


def deleted_as_a_dead_letter(run: Run) -> None:
    video_id = run.upload()
    run.fail(video_id, times=POLICY.max_failures)
    run.store.delete(video_id, by="ada", grace=DAY)


def abandoned(run: Run) -> None:
    video = uploading(run.store).video
    run.objects.put(video.source_key, b"half")
    run.store.abandon_upload(video.id)


def cancelled_in_mid_upload(run: Run) -> None:
    run.store.cancel(uploading(run.store).video.id)


def submitted(run: Run) -> None:
    new = new_video(owned=False)
    run.store.submit_existing(new, Source(5))
    run.publish(new.id)


def moved_by_sqs(run: Run) -> None:
    """SQS moves two messages of the job to the dead-letter queue: one while the job waits, one during an attempt."""
    video_id = run.upload()
    run.store.mark_sent(run.store.hold_outbox(limit=1, hold=HOUR)[0], broker="queue")
    _move(run, video_id)
    lease = run.claim(video_id)
    _move(run, video_id)
    assert lease.counters.lost == 1
    assert run.store.publish(lease, result(lease))


def moved_long_ago(run: Run) -> None:
    moved_by_sqs(run)
    run.backend.pass_time(91 * DAY)


def moved_by_sqs_before_a_retry(run: Run) -> None:
    video_id = run.upload()
    run.store.mark_sent(run.store.hold_outbox(limit=1, hold=HOUR)[0], broker="queue")
    _move(run, video_id)
    run.store.cancel(video_id)
    run.store.retry(video_id, by="ada")
    run.publish(video_id)


def moved_by_sqs_after_the_lease(run: Run) -> None:
    """The lease expires, and SQS moves the message before the sweep settles the attempt. Only one loss is counted."""
    video_id = run.claim(run.upload()).video_id
    run.backend.pass_time(HOUR)
    _move(run, video_id)
    run.publish(video_id)


def moved_by_sqs_for_the_last_time(run: Run) -> None:
    video_id = run.upload()
    run.lose(video_id, times=POLICY.max_lost - 1)
    run.store.mark_sent(run.store.hold_outbox(limit=1, hold=HOUR)[0], broker="queue")
    _move(run, video_id)
    assert record_of(run.store, video_id).job.status is Status.DEAD_LETTERED


def recorded(run: Run) -> None:
    """Messages that belong to no job are recorded before they are deleted."""
    for body in ("no \0 JSON", "x" * 5000, '{"video_id": "unknown"}'):
        run.queue.put(body)
        delivery = run.queue.receive(wait=timedelta(0))
        assert delivery is not None
        run.store.record_dead_letter(
            cause=DeadLetterCause.UNREADABLE, message_id=delivery.message_id, body=body, detail="no video"
        )
        run.queue.delete(delivery)


def recorded_long_ago(run: Run) -> None:
    recorded(run)
    run.backend.pass_time(91 * DAY)


def ignored(run: Run) -> None:
    """A worker deletes notifications about objects that do not become videos."""
    for about in (record("uploads/one.mp4"), record("camera/"), record("camera/empty.mp4", size=0)):
        run.queue.put(notification(about))
        run.take_message()


def _move(run: Run, video_id: str) -> None:
    assert run.store.receive_dead_letter(message_id=new_id(), body="{}", video_id=video_id, generation=1, policy=POLICY)


DONE = [
    processed,
    processed_by_its_message,
    processed_in_the_end,
    rejected,
    out_of_failures,
    out_of_losses,
    discarded,
    redriven,
    retried,
    cancelled,
    cancelled_in_mid_render,
    deleted,
    deleted_in_mid_render,
    deleted_and_gone,
    deleted_with_its_objects_first,
    deleted_without_the_source_of_others,
    deleted_as_a_dead_letter,
    abandoned,
    cancelled_in_mid_upload,
    submitted,
    moved_by_sqs,
    moved_by_sqs_before_a_retry,
    moved_by_sqs_after_the_lease,
    moved_by_sqs_for_the_last_time,
    recorded,
    ignored,
]
DONE_LONG_AGO = [processed_last_week, moved_long_ago, forgotten, recorded_long_ago]


def check_at_rest(run: Run) -> None:
    """Check the promises three times: now, after a sweep, and after a second sweep a day later.

    The second sweep deletes the objects whose deletion is repeated after a day.
    """
    first = run.evidence()
    check_promises(first, POLICY, at_rest=True)
    run.sweep()
    check_promises(run.evidence(), POLICY, at_rest=True, earlier=first)
    run.backend.pass_time(25 * HOUR)
    run.sweep()
    check_promises(run.evidence(), POLICY, at_rest=True, earlier=first)


@pytest.mark.parametrize("story", DONE + DONE_LONG_AGO, ids=lambda story: story.__name__)
def test_a_run_that_keeps_its_promises_has_no_violations(memory: Backend, story: Story) -> None:
    run = Run(memory)
    story(run)
    check_at_rest(run)


def test_many_runs_on_one_database_have_no_violations(sql: Sql) -> None:
    run = Run(sql)
    for story in DONE:
        story(run)
        run.sweep()
    check_at_rest(run)


def test_a_run_keeps_its_promises_at_every_moment(backend: Backend) -> None:
    run = Run(backend)
    moments = [run.evidence()]

    def look() -> None:
        moments.append(run.evidence())
        for earlier in moments:
            check_promises(moments[-1], POLICY, earlier=earlier)

    run.queue.put("no JSON")
    video_id = uploading(run.store).video.id
    look()
    run.store.abandon_upload(video_id)
    video_id = run.upload()
    look()
    run.relay.send_due()
    look()
    assert run.queue.receive(wait=timedelta(0)) is not None
    run.fail(video_id, times=POLICY.max_failures)
    look()
    run.store.retry(video_id, by="ada")
    look()
    run.claim(video_id)
    look()
    run.store.delete(video_id, by="ada", grace=DAY)
    look()


class Uploading(list[str]):
    """The receipts of a client whose upload ends at the moment at which the checker reads them."""

    def __init__(self, sql: Sql) -> None:
        super().__init__()
        self._sql = sql

    def __iter__(self) -> Iterator[str]:
        yield given.uploaded(self._sql.store)


def test_an_upload_that_ends_while_the_checker_looks_is_no_broken_promise(sql: Sql) -> None:
    evidence = read_evidence(sql.database, receipts=Uploading(sql))
    assert evidence.receipts == {record.video.id for record in evidence.records}
