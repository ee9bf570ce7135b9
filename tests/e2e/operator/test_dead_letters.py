"""Tests how dead letters are shown by kubectl, and how people redrive the dead letters."""

from anb_core.domain.dead_letters import DeadLetterFilter, Resolution
from anb_core.domain.model import DeadLetterCause
from anb_core.ports.store import Store
from anb_operator.videojob import DEAD_LETTER
from tests.e2e.operator.conftest import Json, Site
from tests.support import eventually
from tests.support.given import claim, dead_lettered, failed, record_of, result

LABELLED = f"{DEAD_LETTER}=true"


def discard(store: Store, video_id: str) -> None:
    letter = store.history(video_id).dead_letter
    assert letter is not None
    store.discard_dead_letter(letter.id, by="ada", reason="It was a test.")


def labelled(site: Site) -> list[str]:
    """Return the rows that kubectl prints for VideoJobs with the label."""
    return site.kubectl("get", "vj", "-l", LABELLED, "--no-headers").stdout.splitlines()


def message(status: Json, condition: str) -> str:
    [found] = [one for one in status["conditions"] if one["type"] == condition]
    assert found["status"] == "True"
    text: str = found["message"]
    return text


def test_a_dead_letter_is_shown_and_a_new_token_redrives_it(served: Site) -> None:
    store = served.store
    video_id = dead_lettered(store)
    served.put(record_of(store, video_id).video.source_key)
    served.phase(video_id, "dead_lettered")
    served.kubectl("wait", "--for=condition=DeadLettered", f"videojob/{video_id}", "--timeout=60s")
    [row] = [row.split() for row in labelled(served) if video_id in row]
    assert row[:5] == [video_id, "dead_lettered", "0%", "1", "verification_failed"]
    described = served.kubectl("describe", "videojob", video_id).stdout
    assert "1 attempt failed. The last error: The result is not as planned." in described
    served.patch(video_id, {"retry": "once"})
    served.phase(video_id, "uploaded")
    assert not any(video_id in row for row in labelled(served))
    [letter] = [one for one in store.dead_letters(DeadLetterFilter(state="all")) if one.video_id == video_id]
    assert (letter.resolution, letter.resolved_by) == (
        Resolution.REDRIVEN,
        f"kubernetes:{served.namespace}/{video_id}",
    )
    lease = claim(store, video_id)
    store.publish(lease, result(lease))
    assert "deadLetter" not in served.phase(video_id, "processed")
    reasons = [reason for reason, _ in served.events(video_id)]
    assert reasons == ["Started", "AttemptFailed", "DeadLettered", "Redriven", "Started", "Processed"]


def test_a_discard_is_shown_with_its_reason(served: Site) -> None:
    video_id = dead_lettered(served.store)
    served.phase(video_id, "dead_lettered")
    discard(served.store, video_id)
    status = served.eventually_status(video_id, lambda status: "resolution" in status["deadLetter"])
    assert (
        status["deadLetter"].items()
        >= {
            "cause": "failures",
            "resolution": "discarded",
            "resolvedBy": "ada",
            "reason": "It was a test.",
        }.items()
    )
    assert "ada discarded it at " in message(status, "DeadLettered")
    eventually(lambda: "Discarded" in dict(served.events(video_id)), every=0.2)
    assert not any(video_id in row for row in labelled(served))


def test_a_videojob_stays_until_its_dead_letter_is_handled(site: Site) -> None:
    short = {"ANB_OPERATOR_TTL_FAILED_SECONDS": "1"}
    with site.ready_operator(**short):
        video_id = dead_lettered(site.store)
        site.phase(video_id, "dead_lettered")
        # The video `other` fails later, and its mirror is deleted after the TTL. The mirror of the dead letter remains.
        other = failed(site.store)
        eventually(lambda: "Failed" in dict(site.events(other)) and other not in site.videojobs(), every=0.2)
        assert video_id in site.videojobs()
    site.kubectl("delete", "videojob", video_id, "--timeout=60s")
    with site.ready_operator(**short):
        site.phase(video_id, "dead_lettered")
        assert len(labelled(site)) == 1
        discard(site.store, video_id)
        eventually(lambda: site.videojobs() == {}, every=0.2)


def test_a_message_without_a_video_is_an_event_on_the_operators_deployment(served: Site) -> None:
    served.kubectl(
        "create", "deployment", served.environment["ANB_OPERATOR_DEPLOYMENT"], "--image=none", "--replicas=0"
    )
    served.store.record_dead_letter(
        cause=DeadLetterCause.UNREADABLE, message_id="m", body="a secret", detail="the body is not JSON"
    )
    events = eventually(lambda: served.events("anb-operator"), every=0.2)
    assert [reason for reason, _ in events or []] == ["UnreadableMessage"]
    described = served.kubectl("describe", "deployment", "anb-operator").stdout
    assert "the body is not JSON" in described
    assert "a secret" not in described
