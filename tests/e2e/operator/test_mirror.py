import re

from tests.e2e.operator.conftest import Site
from tests.support import eventually
from tests.support.given import (
    BAD_INPUT,
    DAY,
    claim,
    interrupt,
    processed,
    processing,
    reject,
    result,
    uploaded,
    uploading,
)


def test_a_video_is_followed_from_upload_to_result(served: Site) -> None:
    store = served.store
    video_id = uploading(store).video.id
    served.phase(video_id, "uploading")
    video_id = uploaded(store)
    assert served.phase(video_id, "uploaded")["attempts"] == 0
    lease = claim(store, video_id, worker="anb-worker-1")
    assert served.phase(video_id, "processing")["worker"] == "anb-worker-1"
    store.report_progress(lease, 0.42)
    served.eventually_status(video_id, lambda status: status["progress"] == "42%")
    store.publish(lease, result(lease))
    status = served.phase(video_id, "processed")
    assert (status["progress"], status["resultKey"]) == ("100%", lease.result_key)
    assert "worker" not in status
    served.kubectl("wait", "--for=condition=Complete", f"videojob/{video_id}", "--timeout=60s")
    assert [reason for reason, _ in served.events(video_id)] == ["Started", "Processed"]


def test_bad_input_shows_with_its_reason(served: Site) -> None:
    lease = processing(served.store)
    reject(served.store, lease)
    served.phase(lease.video_id, "failed")
    row = served.kubectl("get", "videojob", lease.video_id, "--no-headers").stdout.split()
    assert row[:5] == [lease.video_id, "failed", "0%", "1", "corrupt"]
    described = served.kubectl("describe", "videojob", lease.video_id).stdout
    assert BAD_INPUT.message in described


def test_an_attempt_that_was_handed_on_is_shown(served: Site) -> None:
    lease = processing(served.store)
    served.phase(lease.video_id, "processing")
    interrupt(served.store, lease)
    second = claim(served.store, lease.video_id, worker="worker-2")
    served.store.publish(second, result(second))
    assert served.phase(lease.video_id, "processed")["attempts"] == 2
    reasons = [reason for reason, _ in served.events(lease.video_id)]
    assert reasons == ["Started", "Interrupted", "Started", "Processed"]


def test_a_mirror_that_is_edited_or_deleted_by_hand_heals(served: Site) -> None:
    video_id = uploaded(served.store)
    served.phase(video_id, "uploaded")
    wrong = '{"status":{"phase":"failed"}}'
    served.kubectl("patch", "vj", video_id, "--subresource=status", "--type=merge", "-p", wrong)
    served.phase(video_id, "uploaded")
    before = served.videojobs()[video_id]["metadata"]["uid"]
    served.kubectl("delete", "videojob", video_id, "--timeout=60s")
    served.phase(video_id, "uploaded")
    assert served.videojobs()[video_id]["metadata"]["uid"] != before


def test_a_deleted_video_takes_its_mirror_along(served: Site) -> None:
    video_id = processed(served.store)
    served.phase(video_id, "processed")
    served.store.delete(video_id, by="ada", grace=DAY)
    eventually(lambda: video_id not in served.videojobs(), every=0.2)


def test_what_happened_while_no_operator_ran_is_caught_up_with(site: Site) -> None:
    with site.ready_operator() as operator:
        seen = processing(site.store)
        site.phase(seen.video_id, "processing")
        operator.kill()
    site.store.publish(seen, result(seen))
    missed = {processed(site.store) for _ in range(20)}
    with site.ready_operator():

        def finished() -> set[str]:
            found = site.videojobs().items()
            return {name for name, videojob in found if videojob.get("status", {}).get("phase") == "processed"}

        eventually(lambda: finished() == {seen.video_id, *missed}, every=0.3)


def test_a_finished_one_goes_after_its_time_and_the_video_stays(site: Site) -> None:
    with site.ready_operator():
        video_id = processed(site.store)
        site.phase(video_id, "processed")
    # Only the second operator removes mirrors, 5 s after their videos were processed.
    # The first operator creates the mirror, because these 5 s may pass before the second operator is ready.
    with site.ready_operator(ANB_OPERATOR_TTL_PROCESSED_SECONDS="5") as operator:
        eventually(lambda: video_id not in site.videojobs(), every=0.2)
        assert site.store.get(video_id) is not None
        assert operator.stop() == 0


def test_no_mirror_is_made_where_none_is_wanted(site: Site) -> None:
    with site.ready_operator(ANB_OPERATOR_MIRROR="false"):
        video_id = uploaded(site.store)
        # The operator moves its cursor past an event only after it has handled the event.
        eventually(lambda: site.store.cursor("operator") == site.store.last_event_id(), every=0.2)
        assert site.videojobs() == {}
        assert site.store.get(video_id) is not None


def test_an_outage_of_the_database_is_reported_and_restarts_nothing(site: Site) -> None:
    with site.operator(DATABASE_URL="postgresql://nobody@127.0.0.1:9/none") as operator:
        eventually(lambda: "the database does not answer" in operator.get("/readyz"), every=0.3)
        assert operator.get("/healthz") == "ok\n"
        outage = re.compile(r'"what": "feed", "reason": "The database .* is not available')
        eventually(lambda: outage.search(operator.log), every=0.3)


def test_wrong_configuration_ends_the_start_with_a_sentence(site: Site) -> None:
    with site.operator(ANB_OPERATOR_WATCH="everywhere") as operator:
        assert operator.process.wait(60) == 2
        assert "configuration: ANB_OPERATOR_WATCH is everywhere" in operator.log
