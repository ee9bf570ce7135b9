import json

from anb_core.domain.status import Status
from anb_operator.deletion_costs import DELETION_COST
from anb_operator.videojob import API_VERSION, KIND
from tests.e2e.operator.conftest import Site
from tests.support import eventually
from tests.support.given import (
    MINUTE,
    SOURCE,
    claim,
    failed,
    new_video,
    processing,
    record_of,
    reject,
    result,
    uploaded,
)

KEY = "uploads/clip.mp4"
SUBMITTED = {"source": {"key": KEY}, "title": "My clip"}


def test_an_object_is_submitted_once_however_often_it_is_applied(site: Site) -> None:
    site.put(KEY)
    with site.ready_operator():
        site.apply("clip", SUBMITTED)
        video_id = site.phase("clip", "uploaded")["videoId"]
        site.apply("clip", SUBMITTED)
        site.kubectl("annotate", "videojob", "clip", "touched=yes")
    with site.ready_operator():
        lease = claim(site.store, video_id)
        site.store.publish(lease, result(lease))
        site.phase("clip", "processed")
    [record] = site.store.listing(owner=None)
    assert (record.video.id, record.video.owner, record.video.title) == (video_id, "kubernetes", "My clip")
    assert list(site.videojobs()) == ["clip"]
    assert "finalizers" not in site.videojobs()["clip"]["metadata"]


def test_two_videojobs_for_one_key_are_two_videos(served: Site, name: str) -> None:
    served.put(KEY)
    served.apply(f"{name}-1", SUBMITTED)
    served.apply(f"{name}-2", SUBMITTED)
    assert served.phase(f"{name}-1", "uploaded")["videoId"] != served.phase(f"{name}-2", "uploaded")["videoId"]


def test_a_second_videojob_for_one_video_is_refused_and_the_first_is_its_mirror(served: Site, name: str) -> None:
    video_id = uploaded(served.store)
    served.phase(video_id, "uploaded")
    mirror = served.videojobs()[video_id]["metadata"]["uid"]
    served.apply(video_id, {"videoId": video_id, "cancel": True})
    served.phase(video_id, "cancelled")
    assert served.videojobs()[video_id]["metadata"]["uid"] == mirror
    second = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": {"videoId": video_id}}
    path = served.folder / f"{name}.json"
    path.write_text(json.dumps(second), encoding="utf-8")
    assert "Set metadata.name to the id" in served.kubectl("create", "-f", str(path), check=False).stderr
    assert name not in served.videojobs()


def test_videojobs_for_one_id_that_is_no_name_are_one_video(served: Site, name: str) -> None:
    video_id = f"Video_{name}"
    served.apply(f"{name}-1", {"videoId": video_id})
    served.apply(f"{name}-2", {"videoId": video_id})
    served.store.begin_upload(new_video(video_id), lifetime=MINUTE, idempotency=None)
    served.store.complete_upload(video_id, SOURCE)
    assert [served.phase(f"{name}-{number}", "uploaded")["videoId"] for number in (1, 2)] == [video_id, video_id]
    served.patch(f"{name}-1", {"cancel": True})
    served.phase(f"{name}-2", "cancelled")
    assert record_of(served.store, video_id).job.status is Status.CANCELLED


def test_a_missing_object_is_reported_and_submitted_once_it_exists(served: Site, name: str) -> None:
    key = f"uploads/{name}.mp4"
    served.apply(name, {"source": {"key": key}})
    status = served.eventually_status(name, lambda status: status.get("error"))
    assert status["error"]["code"] == "source_missing"
    [accepted] = [condition for condition in status["conditions"] if condition["type"] == "Accepted"]
    assert (accepted["status"], accepted["reason"]) == ("False", "SourceMissing")
    served.put(key)
    served.kubectl("annotate", "videojob", name, "look=again")
    assert "error" not in served.phase(name, "uploaded")


def test_a_key_outside_the_prefixes_is_refused(served: Site, name: str) -> None:
    served.apply(name, {"source": {"key": "private/clip.mp4"}})
    status = served.eventually_status(name, lambda status: status.get("error"))
    assert status["error"]["code"] == "key_not_allowed"
    assert "videoId" not in status


def test_a_patch_cancels_and_a_new_token_retries(served: Site) -> None:
    store = served.store
    video_id = uploaded(store)
    served.put(record_of(store, video_id).video.source_key)
    served.phase(video_id, "uploaded")
    served.patch(video_id, {"cancel": True})
    served.phase(video_id, "cancelled")
    served.patch(video_id, {"cancel": False, "retry": "once"})
    status = served.eventually_status(video_id, lambda status: status.get("retry") == "once")
    assert status["phase"] == "uploaded"
    reject(store, claim(store, video_id))
    served.phase(video_id, "failed")
    served.kubectl("annotate", "videojob", video_id, "touched=yes")
    served.patch(video_id, {"retry": "twice"})
    served.phase(video_id, "uploaded")
    assert record_of(store, video_id).job.generation == 3
    reasons = [reason for reason, _ in served.events(video_id)]
    assert reasons == ["Cancelled", "Retried", "Started", "Failed", "Retried"]


def test_a_token_retries_once_although_the_operator_ended_before_it_could_say_so(site: Site) -> None:
    video_id = failed(site.store)
    site.put(record_of(site.store, video_id).video.source_key)
    account = f"--as=system:serviceaccount:{site.namespace}:anb-operator"
    with site.ready_operator():
        site.phase(video_id, "failed")
        rules = json.loads(site.kubectl("get", "role", "anb-operator", "-o", "json").stdout)["rules"]
        rules = [rule for rule in rules if "videojobs/status" not in rule["resources"]]
        site.kubectl("patch", "role", "anb-operator", "--type=merge", "-p", json.dumps({"rules": rules}))
        allowed = ("auth", "can-i", "patch", "videojobs.anb.video", "--subresource=status", account)
        eventually(lambda: site.kubectl(*allowed, check=False).returncode, every=0.2)
        site.patch(video_id, {"retry": "once"})
        eventually(lambda: record_of(site.store, video_id).job.generation == 2, every=0.2)
        reject(site.store, claim(site.store, video_id))
    site.kubectl("apply", "-f", str(site.folder / "role.yaml"))
    with site.ready_operator():
        assert site.eventually_status(video_id, lambda status: status.get("retry"))["phase"] == "failed"
    assert record_of(site.store, video_id).job.generation == 2


def test_a_retry_that_can_not_be_is_refused_with_a_sentence(served: Site) -> None:
    video_id = failed(served.store)
    served.phase(video_id, "failed")
    served.patch(video_id, {"retry": "once"})
    eventually(lambda: "RetryRefused" in dict(served.events(video_id)), every=0.2)
    assert "upload it again" in dict(served.events(video_id))["RetryRefused"]
    assert served.status(video_id)["phase"] == "failed"


def test_deleting_an_unfinished_submission_cancels_its_work(served: Site, name: str) -> None:
    served.put(KEY)
    served.apply(name, SUBMITTED)
    video_id = served.phase(name, "uploaded")["videoId"]
    claim(served.store, video_id)
    served.phase(name, "processing")
    served.kubectl("delete", "videojob", name, "--timeout=60s")
    assert record_of(served.store, video_id).job.status is Status.CANCELLED
    last = served.store.last_event_id()
    eventually(lambda: (served.store.cursor("operator") or 0) >= last, every=0.2)
    assert not {name, video_id} & served.videojobs().keys()


def test_a_submission_deleted_while_no_operator_ran_is_cancelled_by_the_next(site: Site) -> None:
    site.put(KEY)
    with site.ready_operator():
        site.apply("clip", SUBMITTED)
        video_id = site.phase("clip", "uploaded")["videoId"]
    site.kubectl("delete", "videojob", "clip", "--wait=false")
    with site.ready_operator():
        eventually(lambda: site.videojobs() == {}, every=0.2)
    assert record_of(site.store, video_id).job.status is Status.CANCELLED


def test_busy_workers_cost_more_to_delete(site: Site) -> None:
    for pod in ("worker-1", "worker-2"):
        site.kubectl("run", pod, "--image=none", "--labels=app=worker")
    with site.ready_operator():
        lease = processing(site.store)
        eventually(lambda: _costs(site) == {"worker-1": "1000", "worker-2": None}, every=0.2)
        site.store.publish(lease, result(lease))
        eventually(lambda: _costs(site) == {"worker-1": None, "worker-2": None}, every=0.2)


def _costs(site: Site) -> dict[str, str | None]:
    pods = json.loads(site.kubectl("get", "pods", "-o", "json").stdout)["items"]
    return {pod["metadata"]["name"]: pod["metadata"].get("annotations", {}).get(DELETION_COST) for pod in pods}
