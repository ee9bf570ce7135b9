from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anb_core.domain.model import Counters, DeadLetterCause, Ending, Problem
from anb_core.domain.retry import (
    INTERRUPTIONS_ALARM,
    WORKER_LOST,
    RetryPolicy,
    Settlement,
    plan_failure,
    plan_interruption,
    plan_loss,
    plan_outage,
    plan_rejection,
    plan_return,
)
from anb_core.domain.status import Change

POLICY = RetryPolicy(max_failures=3, max_lost=5, backoff_base=timedelta(seconds=10), backoff_cap=timedelta(minutes=1))
PROBLEM = Problem("verification_failed", "The renderer stopped.")

counters = st.builds(Counters, *[st.integers(0, 50)] * 3)
jitters = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("failures", "jitter", "seconds"),
    [(0, 0.0, 0), (0, 0.5, 5), (0, 0.999, 9.99), (1, 0.5, 10)],
)
def test_a_failure_waits_longer_the_more_there_were(failures: int, jitter: float, seconds: float) -> None:
    settlement = plan_failure(Counters(failures=failures), PROBLEM, POLICY, jitter)
    assert settlement.delay == timedelta(seconds=seconds)
    assert settlement == Settlement(Ending.FAILED, Counters(failures=failures + 1), settlement.delay, error=PROBLEM)


def test_the_third_failure_is_the_last_one() -> None:
    assert plan_failure(Counters(2, 1, 4), PROBLEM, POLICY, 0.5) == Settlement(
        Ending.FAILED, Counters(3, 1, 4), None, Change.EXHAUST, PROBLEM, DeadLetterCause.FAILURES
    )


@pytest.mark.parametrize(("lost", "seconds"), [(0, 0), (1, 10), (2, 20), (3, 40)])
def test_the_first_loss_waits_for_nobody_and_later_ones_longer_and_longer(lost: int, seconds: int) -> None:
    settlement = plan_loss(Counters(1, lost, 2), POLICY)
    assert settlement == Settlement(Ending.LOST, Counters(1, lost + 1, 2), timedelta(seconds=seconds))


def test_the_fifth_loss_is_the_last_one() -> None:
    assert plan_loss(Counters(lost=4), POLICY) == Settlement(
        Ending.LOST, Counters(lost=5), None, Change.EXHAUST, WORKER_LOST, DeadLetterCause.WORKER_LOST
    )


def test_no_backoff_is_longer_than_its_cap_however_often() -> None:
    patient = RetryPolicy(max_failures=10_000, max_lost=10_000, backoff_cap=timedelta(minutes=10))
    assert plan_loss(Counters(lost=9_000), patient).delay == timedelta(minutes=10)
    assert plan_failure(Counters(failures=9_000), PROBLEM, patient, 0.5).delay == timedelta(minutes=5)


def test_bad_input_fails_at_once_and_is_nobodys_failure() -> None:
    before = Counters(1, 2, 3)
    assert plan_rejection(before, PROBLEM) == Settlement(Ending.REJECTED, before, None, Change.REJECT, PROBLEM)


def test_an_outage_is_an_interruption_that_waits() -> None:
    settlement = plan_outage(Counters(2, 4, 1), PROBLEM, POLICY, 0.5)
    assert settlement == Settlement(Ending.INTERRUPTED, Counters(2, 4, 2), timedelta(seconds=10), error=PROBLEM)


def test_what_interrupts_one_job_ever_again_is_a_failure() -> None:
    before = Counters(interruptions=INTERRUPTIONS_ALARM)
    assert plan_outage(before, PROBLEM, POLICY, 0.5) == plan_failure(before, PROBLEM, POLICY, 0.5)


@given(counters)
def test_an_interruption_never_ends_a_job_nor_counts_as_a_failure(before: Counters) -> None:
    settlement = plan_interruption(before)
    assert settlement.delay == timedelta(0)
    assert settlement.change is None
    assert settlement.counters == Counters(before.failures, before.lost, before.interruptions + 1)


@pytest.mark.parametrize(
    ("age", "pause"), [(None, 0), (0, 60), (3, 60), (15, 60), (20, 80), (75, 300), (80, 300), (100_000, 300)]
)
def test_a_message_that_comes_back_again_stays_hidden_for_ever_longer(age: int | None, pause: int) -> None:
    assert plan_return(None if age is None else timedelta(seconds=age)) == timedelta(seconds=pause)


@given(counters, jitters)
def test_every_plan_either_goes_on_or_ends_the_job(before: Counters, jitter: float) -> None:
    for settlement in (
        plan_failure(before, PROBLEM, POLICY, jitter),
        plan_outage(before, PROBLEM, POLICY, jitter),
        plan_loss(before, POLICY),
        plan_interruption(before),
        plan_rejection(before, PROBLEM),
    ):
        goes_on = settlement.delay is not None
        assert goes_on is (settlement.change is None)
        assert (settlement.dead_letter is not None) is (settlement.change is Change.EXHAUST)
        if settlement.delay is not None:
            assert timedelta(0) <= settlement.delay <= POLICY.backoff_cap
        else:
            assert settlement.error is not None


@pytest.mark.parametrize(("delay", "change"), [(None, None), (timedelta(0), Change.EXHAUST)])
def test_a_settlement_that_says_neither_or_both_is_refused(delay: timedelta | None, change: Change | None) -> None:
    with pytest.raises(ValueError, match="either a delay or a change"):
        Settlement(Ending.FAILED, Counters(), delay, change)
