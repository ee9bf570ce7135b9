from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from anb_core.domain import lifecycle
from anb_core.domain.claim import Drop, Reason, RecordLoss, Take, judge_claim
from anb_core.domain.edit import EditSpec
from anb_core.domain.model import Counters, Job, NewVideo, Source
from anb_core.domain.retry import RetryPolicy, plan_loss
from anb_core.domain.status import TERMINAL, Status

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
POLICY = RetryPolicy()

_NEW = NewVideo("v", "t", "ada", "Holidays", EditSpec(), "uploads/v.mp4", owned=True, file_name="h.mp4")
UPLOADED = replace(lifecycle.new_record(_NEW, NOW, Source(1)).job, generation=2)
WAITING = replace(UPLOADED, status=Status.PROCESSING)


def leased(until: datetime, counters: Counters = Counters()) -> Job:  # noqa: B008 - a value
    return replace(WAITING, lease_owner="attempt", lease_expires_at=until, worker="w", fence=1, counters=counters)


@pytest.mark.parametrize("generation", [None, 2])
@pytest.mark.parametrize(
    ("job", "decision"),
    [
        (UPLOADED, Take()),
        (WAITING, Take()),
        (replace(WAITING, not_before=NOW), Take()),
        (replace(WAITING, not_before=NOW - SECOND), Take()),
        (replace(WAITING, not_before=NOW + SECOND), Drop(Reason.NOT_DUE, send_after=NOW + SECOND)),
        (leased(NOW + SECOND), Drop(Reason.LEASED)),
        (leased(NOW), Take(plan_loss(Counters(), POLICY))),
        (leased(NOW - SECOND, Counters(failures=2)), Take(plan_loss(Counters(failures=2), POLICY))),
        (leased(NOW - SECOND, Counters(lost=1)), RecordLoss(plan_loss(Counters(lost=1), POLICY))),
        (leased(NOW - SECOND, Counters(lost=4)), RecordLoss(plan_loss(Counters(lost=4), POLICY))),
        (replace(UPLOADED, status=Status.UPLOADING), Drop(Reason.UPLOADING)),
        *((replace(UPLOADED, status=status), Drop(Reason.TERMINAL)) for status in sorted(TERMINAL)),
    ],
)
def test_the_row_decides_what_a_delivery_leads_to(
    job: Job, generation: int | None, decision: Take | RecordLoss | Drop
) -> None:
    assert judge_claim(job, generation, NOW, POLICY) == decision


@pytest.mark.parametrize("job", [UPLOADED, WAITING, leased(NOW + SECOND), leased(NOW - SECOND)])
def test_a_message_of_an_older_generation_wakes_nothing(job: Job) -> None:
    assert judge_claim(job, 1, NOW, POLICY) == Drop(Reason.OLDER_GENERATION)


def test_the_first_loss_is_taken_over_at_once() -> None:
    decision = judge_claim(leased(NOW), 2, NOW, POLICY)
    assert isinstance(decision, Take)
    assert decision.loss is not None
    assert decision.loss.counters.lost == 1


def test_a_loss_that_uses_the_job_up_is_recorded_not_taken() -> None:
    decision = judge_claim(leased(NOW), 2, NOW, RetryPolicy(max_lost=1))
    assert isinstance(decision, RecordLoss)
    assert decision.loss.dead_letter is not None
