"""Tests of how the evidence is read, and of correct but unusual runs, in which the checker must report nothing."""

import json
from datetime import timedelta

from sqlalchemy import Connection, event

from anb_core.domain.model import Source
from anb_core.domain.status import Status
from anb_core.testing.promises import Shown, check_promises
from tests.contract.store.one_run import Run
from tests.support.given import (
    DAY,
    HOUR,
    POLICY,
    new_video,
    result,
)
from tests.support.stores import Backend, Sql


def test_all_rows_are_read_at_one_moment(sql: Sql) -> None:
    run = Run(sql)
    lease, worker = run.claim(run.upload()), sql.another()
    published: list[bool] = []

    def publish_in_between(_: Connection, __: object, statement: str, *___: object) -> None:
        if "FROM attempts" in statement and not published:
            published.append(worker.publish(lease, result(lease)))

    event.listen(sql.database.engine, "before_cursor_execute", publish_in_between)
    evidence = run.evidence()
    assert published == [True]
    assert [one.job.lease_owner for one in evidence.records] == [lease.attempt_id]
    check_promises(evidence, POLICY)


def test_what_a_run_does_not_show_is_not_judged(memory: Backend) -> None:
    run = Run(memory)
    run.upload()
    run.relay.send_due()
    run.queue.put("no JSON")
    unseen = {"objects": None, "messages": None, "cursors": None}
    check_promises(run.evidence(**unseen), POLICY)
    check_promises(run.evidence(**unseen, message_count=1), POLICY)


def test_rows_may_come_in_any_order(memory: Backend) -> None:
    run = Run(memory)
    video_id = run.upload()
    run.fail(video_id, times=POLICY.max_failures)
    run.store.retry(video_id, by="ada")
    run.publish(video_id)
    check_promises(run.evidence(attempts=[*reversed(run.evidence().attempts)]), POLICY)


def test_objects_that_are_younger_than_the_rows_are_not_judged(memory: Backend) -> None:
    """Objects are listed after the rows were read. An attempt that began after the read may own an object."""
    run = Run(memory)
    lease = run.claim(run.upload())
    for key in (f"processed/{lease.video_id}/2-next.mp4", "processed/next/1-next.mp4"):
        run.objects.put(key, b"result")
    check_promises(run.evidence(), POLICY)


def test_objects_of_others_are_not_judged(memory: Backend) -> None:
    run = Run(memory)
    for key in ("resources/intro.mp4", "uploads/camera.mp4"):
        run.objects.put(key, b"video")
    check_promises(run.evidence(), POLICY, at_rest=True)


def test_an_object_without_a_use_may_stay_for_a_day(memory: Backend) -> None:
    run = Run(memory)
    run.fail(run.upload(), times=POLICY.max_failures)
    run.backend.pass_time(24 * HOUR)
    check_promises(run.evidence(), POLICY, at_rest=True)


def test_a_process_may_hold_a_deletion_that_is_late(memory: Backend) -> None:
    run = Run(memory)
    run.fail(run.upload(), times=POLICY.max_failures)
    run.backend.pass_time(26 * HOUR)
    run.store.hold_deletions(limit=100, hold=timedelta(minutes=5))
    check_promises(run.evidence(), POLICY)


def test_a_message_of_an_older_producer_wakes_a_worker_too(memory: Backend) -> None:
    run = Run(memory)
    video_id = run.upload()
    run.relay.send_due()
    run.take_message()
    run.queue.put(json.dumps({"video_id": video_id}))
    check_promises(run.evidence(), POLICY)


def test_a_reader_may_be_at_the_end_of_the_feed(memory: Backend) -> None:
    run = Run(memory)
    run.publish(run.upload())
    run.store.move_cursor("operator", run.store.last_event_id())
    check_promises(run.evidence(), POLICY)
    check_promises(run.evidence(events=[]), POLICY)


def test_a_videojob_may_be_two_seconds_late(memory: Backend) -> None:
    run = Run(memory)
    video_id = run.upload()
    run.backend.pass_time(timedelta(seconds=2))
    for videojobs in ({}, {video_id: Shown(Status.UPLOADING, 0)}):
        check_promises(run.evidence(videojobs=videojobs), POLICY)


def test_videojobs_show_the_jobs(memory: Backend) -> None:
    run = Run(memory)
    waiting, over, gone, deleted_id = (run.upload() for _ in range(4))
    run.fail(waiting)
    for video_id in (over, gone):
        run.publish(video_id)
    for video_id in (deleted_id, gone):
        run.store.delete(video_id, by="ada", grace=DAY)
    run.backend.pass_time(timedelta(seconds=3))
    shown = {waiting: Shown(Status.PROCESSING, 1), over: Shown(Status.PROCESSED, 1), deleted_id: Shown(None, None)}
    for videojobs in (shown, {waiting: shown[waiting]}):
        check_promises(run.evidence(videojobs=videojobs), POLICY)


def test_a_video_may_come_again_after_its_deletion(memory: Backend) -> None:
    run = Run(memory)
    new = new_video(owned=False)
    run.store.submit_existing(new, Source(5))
    run.publish(new.id)
    earlier = run.evidence()
    run.store.delete(new.id, by="ada", grace=DAY)
    memory.pass_time(DAY)
    run.sweep()
    run.store.submit_existing(new_video(new.id, owned=False), Source(5))
    check_promises(run.evidence(), POLICY, earlier=earlier)
