"""What becomes of a job when an attempt ends without a result: decided here, applied by the store at once."""

from dataclasses import dataclass, replace
from datetime import timedelta

from anb_core.domain.backoff import backoff
from anb_core.domain.model import Counters, DeadLetterCause, Ending, Problem
from anb_core.domain.status import Change

WORKER_LOST = Problem("worker_lost", "The worker went away without a word, and so did those that tried again.")

INTERRUPTIONS_ALARM = 20
"""So many interruptions never end a job, but a person should look: something keeps taking its workers or parts away."""

SHORTEST_PAUSE = timedelta(seconds=60)
LONGEST_PAUSE = timedelta(seconds=300)
"""Between these a message that was given back before stays hidden: a queue gives up one that comes back too often."""

PAUSE_GROWTH = 4
"""A message stays hidden for so many times its age, between the limits."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient we are. The backoff after failure n is drawn from 0 to min(cap, base * 2^(n-1)) (full jitter)."""

    max_failures: int = 3
    max_lost: int = 5
    backoff_base: timedelta = timedelta(seconds=10)
    backoff_cap: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of an attempt and what follows: either work remains, after `delay`, or `change` ends the job."""

    ending: Ending
    counters: Counters
    delay: timedelta | None
    change: Change | None = None
    error: Problem | None = None
    dead_letter: DeadLetterCause | None = None

    def __post_init__(self) -> None:
        """Refuse what would leave a job that nobody wakes, or wake one that is over."""
        if (self.delay is None) is (self.change is None):
            raise ValueError(f"either a delay or a change follows an attempt, not {self.delay} and {self.change}")


def plan_failure(counters: Counters, error: Problem, policy: RetryPolicy, jitter: float) -> Settlement:
    """After a try failed. `jitter` is drawn by the caller from [0, 1)."""
    after = replace(counters, failures=counters.failures + 1)
    if after.failures >= policy.max_failures:
        return Settlement(Ending.FAILED, after, None, Change.EXHAUST, error, DeadLetterCause.FAILURES)
    return Settlement(Ending.FAILED, after, _backoff(after.failures, policy, jitter), error=error)


def plan_loss(counters: Counters, policy: RetryPolicy) -> Settlement:
    """After a worker went without a word. The first loss waits for nobody: most often it was the machine's fault."""
    after = replace(counters, lost=counters.lost + 1)
    if after.lost >= policy.max_lost:
        return Settlement(Ending.LOST, after, None, Change.EXHAUST, WORKER_LOST, DeadLetterCause.WORKER_LOST)
    delay = timedelta(0) if after.lost == 1 else _backoff(after.lost - 1, policy, jitter=1)
    return Settlement(Ending.LOST, after, delay)


def plan_interruption(counters: Counters) -> Settlement:
    """After a worker announced that it goes away: the job goes on elsewhere at once, and no failure is counted."""
    return Settlement(Ending.INTERRUPTED, replace(counters, interruptions=counters.interruptions + 1), timedelta(0))


def plan_outage(counters: Counters, error: Problem, policy: RetryPolicy, jitter: float) -> Settlement:
    """After a part we depend on went away in mid-work: an interruption that waits a little, no fault of the video.

    From the alarm on it counts as a failure: what happens to one job so often is no outage.
    """
    if counters.interruptions >= INTERRUPTIONS_ALARM:
        return plan_failure(counters, error, policy, jitter)
    interruption = plan_interruption(counters)
    return replace(interruption, delay=_backoff(interruption.counters.interruptions, policy, jitter), error=error)


def plan_rejection(counters: Counters, error: Problem) -> Settlement:
    """After the input turned out to be bad: it fails once, and trying again is useless."""
    return Settlement(Ending.REJECTED, counters, None, Change.REJECT, error)


def plan_return(age: timedelta | None) -> timedelta:
    """How long a message stays hidden that is given back `age` after its first receipt, None if this is the first one.

    The first time another worker may do better at once. Later the pause grows with the age, which is the same whichever
    workers had the message: that each of several gives it back once must not use up its receives.
    """
    if age is None:
        return timedelta(0)
    return min(LONGEST_PAUSE, max(SHORTEST_PAUSE, PAUSE_GROWTH * age))


def _backoff(tries: int, policy: RetryPolicy, jitter: float) -> timedelta:
    return backoff(tries, base=policy.backoff_base, cap=policy.backoff_cap, jitter=jitter, least=0)
