from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from anb_core.domain import lifecycle
from anb_core.domain.dead_letters import DeadLetter, Resolution, check_open, judge_arrival, stored_body
from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Conflict
from anb_core.domain.message import MAX_BODY_BYTES
from anb_core.domain.model import Counters, DeadLetterCause, Job, NewVideo, Source
from anb_core.domain.retry import RetryPolicy, Settlement, plan_loss
from anb_core.domain.status import TERMINAL, Status

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
POLICY = RetryPolicy()

_NEW = NewVideo("v", "t", "ada", "Holidays", EditSpec(), "uploads/v.mp4", owned=True, file_name="h.mp4")
UPLOADED = replace(lifecycle.new_record(_NEW, NOW, Source(1)).job, generation=2)
WAITING = replace(UPLOADED, status=Status.PROCESSING, counters=Counters(failures=1, lost=1))
EXPIRED = replace(WAITING, lease_owner="attempt", lease_expires_at=NOW, worker="w", fence=1)
LEASED = replace(EXPIRED, lease_expires_at=NOW + SECOND)
LAST = replace(UPLOADED, counters=Counters(lost=POLICY.max_lost - 1))

STALE, REQUEUED = Resolution.STALE, Resolution.REQUEUED


@pytest.mark.parametrize(
    ("job", "state", "resolution", "settlement"),
    [
        (UPLOADED, {}, REQUEUED, plan_loss(UPLOADED.counters, POLICY)),
        (UPLOADED, {"generation": None}, REQUEUED, plan_loss(UPLOADED.counters, POLICY)),
        (UPLOADED, {"generation": 1}, STALE, None),
        (UPLOADED, {"waiting_in_outbox": True}, STALE, None),
        (UPLOADED, {"deleted": True}, STALE, None),
        (WAITING, {}, REQUEUED, plan_loss(WAITING.counters, POLICY)),
        (replace(WAITING, not_before=NOW), {}, REQUEUED, plan_loss(WAITING.counters, POLICY)),
        (replace(WAITING, not_before=NOW + SECOND), {"waiting_in_outbox": True}, STALE, None),
        (EXPIRED, {}, REQUEUED, plan_loss(EXPIRED.counters, POLICY)),
        (EXPIRED, {"deleted": True}, STALE, None),
        (LEASED, {}, STALE, None),
        (replace(UPLOADED, status=Status.UPLOADING), {}, STALE, None),
        *((replace(UPLOADED, status=status), {}, STALE, None) for status in sorted(TERMINAL)),
        (LAST, {}, None, plan_loss(LAST.counters, POLICY)),
        (LAST, {"waiting_in_outbox": True}, STALE, None),
    ],
)
def test_a_message_that_sqs_moved_is_judged_by_its_job(
    job: Job, state: dict[str, object], resolution: Resolution | None, settlement: Settlement | None
) -> None:
    about = {"deleted": False, "generation": 2, "waiting_in_outbox": False, "being_sent": False} | state
    verdict = judge_arrival(job, **about, now=NOW, policy=POLICY)  # type: ignore[arg-type]
    assert (verdict.resolution, verdict.settlement, verdict.send_after) == (resolution, settlement, None)
    assert verdict.detail.endswith(".")


def test_a_job_that_must_wait_and_has_no_message_left_needs_one() -> None:
    job = replace(WAITING, not_before=NOW + SECOND)
    for being_sent in (False, True):
        verdict = judge_arrival(
            job,
            deleted=False,
            generation=2,
            waiting_in_outbox=False,
            being_sent=being_sent,
            now=NOW,
            policy=POLICY,
        )
        assert (verdict.resolution, verdict.send_after) == (STALE, NOW + SECOND)


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        ("", ""),
        ("x" * MAX_BODY_BYTES, "x" * MAX_BODY_BYTES),
        ("x" * (MAX_BODY_BYTES + 1), "x" * MAX_BODY_BYTES),
        ("x" * (MAX_BODY_BYTES - 1) + "é", "x" * (MAX_BODY_BYTES - 1)),
        ("a\ud800b", "a?b"),
    ],
    ids=["empty", "as large as can be", "too large", "cut within a character", "half a pair"],
)
def test_a_body_is_stored_up_to_the_last_whole_character_that_fits(body: str, stored: str) -> None:
    assert stored_body(body) == stored


@pytest.mark.parametrize(
    ("resolution", "by", "sentence"),
    [
        (Resolution.REDRIVEN, "olga", "Dead letter 7 was redriven by olga at 2026-01-01 12:00:00 UTC."),
        (Resolution.DISCARDED, "olga", "Dead letter 7 was discarded by olga at 2026-01-01 12:00:00 UTC."),
        (Resolution.DELETED, "ana", "The video of dead letter 7 was deleted by ana at 2026-01-01 12:00:00 UTC."),
        (Resolution.STALE, None, "The message of dead letter 7 was stale at 2026-01-01 12:00:00 UTC."),
        (Resolution.REQUEUED, None, "Dead letter 7 was requeued at 2026-01-01 12:00:00 UTC."),
    ],
)
def test_a_refusal_says_who_resolved_the_dead_letter_and_how(
    resolution: Resolution, by: str | None, sentence: str
) -> None:
    letter = DeadLetter(7, DeadLetterCause.FAILURES, "An error.", NOW)
    check_open(letter)
    with pytest.raises(Conflict) as refused:
        check_open(replace(letter, resolution=resolution, resolved_by=by, resolved_at=NOW))
    assert (refused.value.code, refused.value.message) == ("dead_letter_resolved", sentence)
