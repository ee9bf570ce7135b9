import pytest

from anb_core.adapters.system import new_id
from anb_core.domain.dead_letters import SHORT_BODY, DeadLetter, DeadLetterFilter, Resolution
from anb_core.domain.errors import Conflict
from anb_core.domain.message import MAX_BODY_BYTES
from anb_core.domain.model import DeadLetterCause, Problem
from anb_core.domain.retry import plan_failure, plan_rejection
from anb_core.domain.status import Status
from anb_core.ports.store import Claimed, Store, Unknown
from tests.support.given import LEASE, POLICY, processing, record_of, sent, uploaded
from tests.support.stores import Backend

FFMPEG = Problem("verification_failed", "The result is not as planned.", "frame=12\nConversion failed!")
ALL = DeadLetterFilter(state="all")


def dead_lettered(store: Store, *, owner: str = "ada", version: str = "1.0") -> str:
    """Create a video whose job has reached its limit of failures and is dead-lettered. Returns the video's id."""
    video_id = uploaded(store, owner=owner)
    once = POLICY.__class__(max_failures=1)
    claimed = store.claim(
        video_id, generation=1, attempt_id=new_id(), worker="w1", version=version, lease=LEASE, policy=POLICY
    )
    assert isinstance(claimed, Claimed)
    assert store.settle(claimed.lease, plan_failure(claimed.lease.counters, FFMPEG, once, jitter=0))
    return video_id


def only(store: Store) -> DeadLetter:
    [letter] = store.dead_letters(ALL)
    return letter


def test_a_message_that_belongs_to_no_job_is_recorded_once(backend: Backend) -> None:
    store = backend.store
    recorded = [
        store.record_dead_letter(
            cause=DeadLetterCause.UNKNOWN_JOB, message_id=message_id, body="{}", detail="There is no video 7."
        )
        for message_id in ("m1", "m1", "m2")
    ]
    assert recorded == [True, False, True]
    assert backend.dead_letters() == [
        (DeadLetterCause.UNKNOWN_JOB, "There is no video 7.", None, None, message_id, "{}")
        for message_id in ("m1", "m2")
    ]


def test_a_body_is_kept_whole_up_to_the_largest_message_and_cut_at_a_character(store: Store) -> None:
    whole, longer = "é" * (MAX_BODY_BYTES // 2), "x" + "é" * 200_000
    for body in (whole, longer):
        assert store.record_dead_letter(
            cause=DeadLetterCause.UNREADABLE, message_id=body[:2], body=body, detail="not JSON"
        )
    listed = store.dead_letters(ALL)
    shown = {letter.message_id: store.dead_letter(letter.id) for letter in listed}
    assert [letter and letter.body for letter in shown.values()] == [longer[: MAX_BODY_BYTES // 2], whole]
    assert [len(letter.body or "") for letter in listed] == [SHORT_BODY, SHORT_BODY]


@pytest.mark.parametrize("odd", ["a\0b", "a\ud800b"], ids=["NUL", "half a pair"])
def test_text_that_no_database_keeps_is_recorded_as_well_as_can_be(backend: Backend, odd: str) -> None:
    store = backend.store
    assert store.record_dead_letter(cause=DeadLetterCause.UNREADABLE, message_id="m", body=odd, detail=odd)
    [letter] = backend.dead_letters()
    assert letter.body is not None
    assert (letter.body[0], letter.body[-1]) == ("a", "b")
    lease = processing(store)
    assert store.settle(lease, plan_rejection(lease.counters, Problem("corrupt", odd)))
    # Look up ids with any character, because nothing validates the ids in messages and URLs.
    assert store.get(odd) is None
    assert store.claim(odd, generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY) == Unknown()
    assert store.find_token(odd) is None


def test_a_job_that_fails_for_good_leaves_everything_that_people_need_to_know(store: Store) -> None:
    video_id = dead_lettered(store, owner="eve", version="2.3")
    letter = only(store)
    assert (letter.cause, letter.detail, letter.code, letter.error_detail) == (
        DeadLetterCause.FAILURES,
        FFMPEG.message,
        FFMPEG.code,
        FFMPEG.detail,
    )
    assert (letter.video_id, letter.generation, letter.owner) == (video_id, 1, "eve")
    assert (letter.worker, letter.version, letter.failures, letter.lost) == ("w1", "2.3", 1, 0)
    assert letter.open
    assert store.history(video_id).dead_letter == letter
    assert store.history(video_id).attempts[0].version == "2.3"
    assert store.open_dead_letters() == {DeadLetterCause.FAILURES: 1}


def test_a_redrive_is_a_retry_and_resolves_the_dead_letter(store: Store) -> None:
    video_id = dead_lettered(store)
    letter = only(store)
    job = store.redrive_dead_letter(letter.id, by="eve").job
    assert (job.status, job.generation) == (Status.UPLOADED, 2)
    resolved = only(store)
    assert (resolved.resolution, resolved.resolved_by) == (Resolution.REDRIVEN, "eve")
    assert resolved.resolved_at is not None
    assert store.history(video_id).dead_letter is None
    with pytest.raises(Conflict, match=r"was redriven by eve at .* UTC") as refused:
        store.redrive_dead_letter(letter.id, by="ada")
    assert refused.value.code == "dead_letter_resolved"


def test_a_discard_keeps_the_reason_and_tells_the_readers_of_the_feed(store: Store) -> None:
    video_id = dead_lettered(store)
    before, job = store.last_event_id(), record_of(store, video_id).job
    discarded = store.discard_dead_letter(only(store).id, by="eve", reason="A test upload.")
    assert (discarded.resolution, discarded.resolved_by, discarded.reason) == (
        Resolution.DISCARDED,
        "eve",
        "A test upload.",
    )
    assert only(store) == discarded
    [event] = store.events_after(before)
    assert (event.video_id, event.version, event.status) == (video_id, job.version + 1, Status.DEAD_LETTERED)
    assert store.open_dead_letters() == {}


def test_a_message_that_was_moved_counts_as_a_loss_once(store: Store) -> None:
    video_id = uploaded(store)
    sent(store, video_id)

    def receive() -> DeadLetter | Unknown | None:
        return store.receive_dead_letter(message_id="m", body="{}", video_id=video_id, generation=1, policy=POLICY)

    letter = receive()
    assert isinstance(letter, DeadLetter)
    assert (letter.resolution, letter.lost) == (Resolution.REQUEUED, 1)
    assert record_of(store, video_id).job.counters.lost == 1
    assert receive() is None
    assert record_of(store, video_id).job.counters.lost == 1
    assert [entry.video_id for entry in store.hold_outbox(limit=10, hold=LEASE)] == [video_id]
