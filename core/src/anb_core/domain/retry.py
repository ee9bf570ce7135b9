"""Decide what happens to a job after an attempt without a result. The decision is a `Settlement`."""

from dataclasses import dataclass, replace
from datetime import timedelta

from anb_core.domain.backoff import backoff
from anb_core.domain.model import Counters, DeadLetterCause, Ending, Problem
from anb_core.domain.status import Change

WORKER_LOST = Problem("worker_lost", "The worker stopped responding, and so did the workers that tried again.")

INTERRUPTIONS_ALARM = 20
"""After this many interruptions of a job, a person should look for their cause.

Interruptions alone never end a job.
"""

SHORTEST_PAUSE = timedelta(seconds=60)
LONGEST_PAUSE = timedelta(seconds=300)
"""Shortest and longest time for which a message stays invisible after a worker returned it to the queue.
Without a pause, workers would soon receive the message too often, and SQS would move it to the dead-letter queue.
"""

PAUSE_GROWTH = 4
"""The time for which a returned message stays invisible is the message's age multiplied by this factor."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when a job is tried again.

    The delay after failure n is a random time from 0 to min(backoff_cap, backoff_base * 2^(n-1)) (full jitter).
    """

    max_failures: int = 3
    """Number of failures at which the job becomes a dead letter."""
    max_lost: int = 5
    """Number of losses at which the job becomes a dead letter. A loss is an attempt whose lease expired, or a message
    that SQS moved to the dead-letter queue."""
    backoff_base: timedelta = timedelta(seconds=10)
    backoff_cap: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Settlement:
    """How an attempt ended, and what follows for the job. A store applies the settlement in one transaction.

    Exactly one of `delay` and `change` is None.
    """

    ending: Ending
    counters: Counters
    """The job's counters after the end of the attempt."""
    delay: timedelta | None
    """Time until the next attempt may begin. None if the job ends."""
    change: Change | None = None
    """The change that ends the job. None if another attempt follows."""
    error: Problem | None = None
    """Why the attempt ended. None if the worker shut down, or if the attempt was lost and the job does not end."""
    dead_letter: DeadLetterCause | None = None
    """Why the job becomes a dead letter. None if the job does not become a dead letter."""

    def __post_init__(self) -> None:
        """Check that exactly one of `delay` and `change` is given: a job either waits for its next attempt or ends."""
        if (self.delay is None) is (self.change is None):
            raise ValueError(f"either a delay or a change follows an attempt, not {self.delay} and {self.change}")


def plan_failure(counters: Counters, error: Problem, policy: RetryPolicy, jitter: float) -> Settlement:
    """Plan the settlement of a failed attempt. `jitter` is a random number from [0, 1)."""
    after = replace(counters, failures=counters.failures + 1)
    if after.failures >= policy.max_failures:
        return Settlement(Ending.FAILED, after, None, Change.EXHAUST, error, DeadLetterCause.FAILURES)
    return Settlement(Ending.FAILED, after, _backoff(after.failures, policy, jitter), error=error)


def plan_loss(counters: Counters, policy: RetryPolicy) -> Settlement:
    """Plan the settlement of an attempt that was lost: its lease expired.

    After the first loss, the job is tried again at once, because the usual cause is a failed machine.
    """
    after = replace(counters, lost=counters.lost + 1)
    if after.lost >= policy.max_lost:
        return Settlement(Ending.LOST, after, None, Change.EXHAUST, WORKER_LOST, DeadLetterCause.WORKER_LOST)
    delay = timedelta(0) if after.lost == 1 else _backoff(after.lost - 1, policy, jitter=1)
    return Settlement(Ending.LOST, after, delay)


def plan_interruption(counters: Counters) -> Settlement:
    """Plan the settlement of an attempt whose worker shuts down. Another attempt may begin at once.

    An interruption does not count as a failure of the job.
    """
    return Settlement(Ending.INTERRUPTED, replace(counters, interruptions=counters.interruptions + 1), timedelta(0))


def plan_outage(counters: Counters, error: Problem, policy: RetryPolicy, jitter: float) -> Settlement:
    """Plan the settlement of an attempt that ended because a dependency (database, bucket or queue) did not answer.

    The attempt counts as interrupted, and the next attempt waits for a backoff.
    But if the job already has INTERRUPTIONS_ALARM interruptions, the attempt counts as failed.
    A job with so many interruptions probably causes the outages itself.
    """
    if counters.interruptions >= INTERRUPTIONS_ALARM:
        return plan_failure(counters, error, policy, jitter)
    interruption = plan_interruption(counters)
    return replace(interruption, delay=_backoff(interruption.counters.interruptions, policy, jitter), error=error)


def plan_rejection(counters: Counters, error: Problem) -> Settlement:
    """Plan the settlement of an attempt whose input can't be processed. The job ends: a retry would fail too."""
    return Settlement(Ending.REJECTED, counters, None, Change.REJECT, error)


def plan_return(age: timedelta | None) -> timedelta:
    """Return how long a message stays invisible when a worker returns the message to the queue.

    `age` is the time since the message was first received. None if the message was received only once.
    After the first receipt, the message becomes visible again at once.
    After the second and each later receipt, the message stays invisible for a time that grows with `age`.
    The growing time limits the number of receipts, even if several workers return the message.
    """
    if age is None:
        return timedelta(0)
    return min(LONGEST_PAUSE, max(SHORTEST_PAUSE, PAUSE_GROWTH * age))


def _backoff(tries: int, policy: RetryPolicy, jitter: float) -> timedelta:
    return backoff(tries, base=policy.backoff_base, cap=policy.backoff_cap, jitter=jitter, least=0)
