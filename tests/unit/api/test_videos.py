"""Tests of the routes of one video: its state, its download and its commands."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from anb_core.adapters.system import new_id
from anb_core.domain.model import Counters, Problem, Scope
from anb_core.domain.retry import RetryPolicy, plan_outage
from anb_core.ports.store import Claimed
from tests.support import eventually
from tests.support.given import record_of
from tests.unit.api.conftest import VIDEO, World, code_of, process


def test_a_receipt_tells_where_the_video_is(world: World) -> None:
    ana = world.caller("ana")
    answer = world.client.post(
        "/api/videos/upload",
        headers=ana,
        data={"title": "Día", "edit": '{"trim": {"start": 2}}'},
        files={"video_file": ("../../clip.mp4", b"\0\0\0\x18ftypisom")},
    )

    receipt = answer.json()
    assert (answer.status_code, receipt["status"]) == (202, "uploaded")
    video = world.client.get(answer.headers["location"], headers=ana).json()
    assert (video["video_id"], video["task_id"]) == (receipt["video_id"], receipt["task_id"])
    assert (video["title"], video["file_name"], video["edit"]["trim"]) == (
        "Día",
        "clip.mp4",
        {"start": 2, "length": 30},
    )
    assert video["links"] == receipt["links"]
    assert (video["source"]["size"], video["history"]) == (12, [])


def test_a_scheduled_video_shows_its_time_everywhere_and_waits_for_it(world: World) -> None:
    ana, at = world.caller("ana"), "2026-12-01T08:00:00.000+00:00"
    world.store.clock = lambda: datetime(2026, 12, 1, 7, tzinfo=UTC)
    form = {"title": "T", "process_after": "2026-12-01T09:00:00+01:00"}
    headers = ana | {"Idempotency-Key": "k"}

    def upload() -> httpx.Response:
        files = {"video_file": ("a.mp4", VIDEO)}
        return world.client.post("/api/videos/upload", headers=headers, data=form, files=files)

    first = upload()
    path = first.headers["location"]
    video = world.client.get(path, headers=ana).json()
    (listed,) = world.client.get("/api/videos", headers=ana).json()["videos"]
    assert [first.json()["process_after"], video["process_after"], listed["process_after"]] == [at] * 3
    why = world.client.get(f"{path}/why", headers=ana).json()["sentences"]
    assert why == ["It is scheduled for 2026-12-01 08:00:00 UTC.", "Its message is sent to the queue at that time."]
    assert video["status"] == "uploaded"
    world.store.clock = lambda: datetime(2026, 12, 1, 8, tzinfo=UTC)
    process(world, video["video_id"])
    assert upload().json() == first.json()


def test_the_time_may_follow_the_file(world: World) -> None:
    parts = [("video_file", ("a.mp4", VIDEO)), ("title", (None, "T")), ("process_after", (None, "3600"))]

    answer = world.client.post("/api/videos/upload", headers=world.caller("ana"), files=parts)

    assert answer.json()["process_after"] is not None


@pytest.mark.parametrize("given", ["", "0", "-1", "2001-01-01T00:00Z"])
def test_a_video_that_may_begin_at_once_has_no_such_time(world: World, given: str) -> None:
    ana = world.caller("ana")
    form = {"title": "T", "process_after": given}

    answer = world.client.post("/api/videos/upload", headers=ana, data=form, files={"video_file": ("a.mp4", VIDEO)})

    assert answer.json()["process_after"] is None
    assert world.client.get(answer.headers["location"], headers=ana).json()["process_after"] is None


def test_a_time_that_is_too_far_ahead_is_refused_with_a_code_and_a_sentence(world: World) -> None:
    form = {"title": "T", "process_after": "604801"}

    answer = world.client.post(
        "/api/videos/upload", headers=world.caller("ana"), data=form, files={"video_file": ("a.mp4", VIDEO)}
    )

    assert code_of(answer) == (422, "process_after_invalid")
    assert answer.json()["detail"] == "process_after '604801' is more than 7 days ahead; give an earlier time."


def test_an_upload_wakes_the_relay_which_sends_the_message(world: World) -> None:
    video_id = world.upload(world.caller("ana"))

    delivery = world.queue.receive(wait=timedelta(seconds=5))

    assert delivery is not None
    assert video_id in delivery.body


def test_links_lead_only_where_the_status_allows_it(world: World) -> None:
    ana = world.caller("ana")
    video_id = world.upload(ana)

    def allowed() -> set[str]:
        links = world.client.get(f"/api/videos/{video_id}", headers=ana).json()["links"]
        return {name for name in ("download", "cancel", "retry") if links[name]}

    assert allowed() == {"cancel"}
    world.client.post(f"/api/videos/{video_id}/cancel", headers=ana)
    assert allowed() == {"retry"}
    world.client.post(f"/api/videos/{video_id}/retry", headers=ana)
    assert allowed() == {"cancel"}


def test_a_processed_video_tells_its_result_and_redirects_to_it(world: World) -> None:
    ana = world.caller("ana")
    video_id = world.upload(ana)
    assert code_of(world.client.get(f"/api/videos/{video_id}/download", headers=ana)) == (409, "not_processed")

    process(world, video_id)

    video = world.client.get(f"/api/videos/{video_id}", headers=ana).json()
    assert (video["status"], video["progress"], video["attempts"]) == ("processed", 1.0, 1)
    assert video["result"] == {
        "size": 10,
        "sha256": "ab",
        "width": 1280,
        "height": 720,
        "duration": 35.5,
        "frames": 1065,
    }
    assert [attempt["ending"] for attempt in video["history"]] == ["processed"]
    answer = world.client.get(video["links"]["download"], headers=ana)
    assert answer.status_code == 307
    assert answer.headers["location"].startswith(f"https://{world.objects.bucket}.invalid/processed/{video_id}/1-")
    assert "file_name=clip-processed.mp4" in answer.headers["location"]
    assert answer.headers["cache-control"] == "no-store"


def test_commands_in_the_wrong_status_are_conflicts(world: World) -> None:
    ana = world.caller("ana")
    video_id = world.upload(ana)

    assert code_of(world.client.post(f"/api/videos/{video_id}/retry", headers=ana)) == (409, "wrong_status")
    assert world.client.post(f"/api/videos/{video_id}/cancel", headers=ana).json()["status"] == "cancelled"
    assert code_of(world.client.post(f"/api/videos/{video_id}/cancel", headers=ana)) == (409, "wrong_status")
    world.objects.contents.clear()
    assert code_of(world.client.post(f"/api/videos/{video_id}/retry", headers=ana)) == (409, "source_missing")


def test_a_deleted_video_is_gone(world: World) -> None:
    ana = world.caller("ana")
    video_id = world.upload(ana)

    assert world.client.delete(f"/api/videos/{video_id}", headers=ana).status_code == 204
    assert code_of(world.client.get(f"/api/videos/{video_id}", headers=ana)) == (404, "video_not_found")
    assert code_of(world.client.delete(f"/api/videos/{video_id}", headers=ana)) == (404, "video_not_found")


def test_what_the_log_says_of_an_attempt_is_told_to_ops_alone_and_only_if_asked_for(world: World) -> None:
    ana, ops = world.caller("ana"), world.caller("ops", Scope.OPS)
    video_id = world.upload(ana)
    claimed = world.store.claim(
        video_id, generation=None, attempt_id=new_id(), worker="w", lease=timedelta(minutes=1), policy=RetryPolicy()
    )
    assert isinstance(claimed, Claimed)
    problem = Problem("bucket_unavailable", "The bucket did not answer.", "http://secret.host:9000 refuses")
    world.store.settle(claimed.lease, plan_outage(Counters(), problem, RetryPolicy(), jitter=0.5))

    for headers, query, detail in (
        (ana, "", None),
        (ana, "?detail=true", None),
        (ops, "", None),
        (ops, "?detail=true", "http://secret.host:9000 refuses"),
    ):
        [attempt] = world.client.get(f"/api/videos/{video_id}{query}", headers=headers).json()["history"]
        assert attempt["error"] == {
            "code": "bucket_unavailable",
            "message": "The bucket did not answer.",
            "detail": detail,
        }


def test_a_video_says_where_it_is_and_what_it_waits_for(world: World) -> None:
    ana, ops = world.caller("ana"), world.caller("olga", Scope.OPS)
    video_id = world.upload(ana)
    assert world.queue.receive(wait=timedelta(seconds=5))

    def told(headers: dict[str, str]) -> list[str]:
        answer = world.client.get(f"/api/videos/{video_id}/why", headers=headers)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["video_id"], answer.json()["status"]) == (
            video_id,
            record_of(world.store, video_id).job.status,
        )
        return list(answer.json()["sentences"])

    # The relay marks the message as sent only after it has sent the message, so wait for the mark.
    eventually(lambda: record_of(world.store, video_id).job.enqueued_at)
    waiting = told(ana)
    assert waiting[0] == "It waits for a worker."
    assert waiting[1].startswith("Its message was sent to the queue anb-videos at ")
    assert waiting[2:] == [
        "No job with an earlier message is waiting.",
        "No worker is busy, so one should take it soon.",
    ]
    process(world, video_id)
    assert told(ops)[0] == "The finished video is in the bucket."
    for headers, path in ((world.caller("bob"), video_id), (ops, "unknown")):
        answer = world.client.get(f"/api/videos/{path}/why", headers=headers)
        assert code_of(answer) == (404, "video_not_found")
