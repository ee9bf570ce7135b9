"""Decide what happens to a job when an error ends an attempt without a result."""

import errno

from anb_core.domain.errors import AnbError, BadInput, Full, Interrupted, Unavailable, Withheld
from anb_core.domain.model import Counters, Problem
from anb_core.domain.retry import (
    RetryPolicy,
    Settlement,
    plan_failure,
    plan_interruption,
    plan_outage,
    plan_rejection,
)

# The owner of a video reads these messages. They contain no host names and no error texts of other programs.
# Such details are stored in `Problem.detail`, which only the operator of the deployment can read.
_OUTAGES = {
    "database": "The database did not answer for a while.",
    "bucket": "The bucket did not answer for a while.",
    "scratch": "The worker's disk had no room for the video and its result.",
}
_OUTAGE = "A part of the system did not answer for a while."
_FULL = "There is no room left to store the result."
_WITHHELD = "The bucket denies us access to a file that is needed for this video."

_MAX_DETAIL = 2000
"""Maximum length of `Problem.detail`, in characters."""


def plan_ending(error: Exception, counters: Counters, policy: RetryPolicy, jitter: float) -> Settlement:
    """Plan the settlement of an attempt that ended with `error`. An unexpected error counts as a failure.

    `jitter` is a random number from [0, 1).
    """
    match error:
        case BadInput(code=code, message=message):
            return plan_rejection(counters, Problem(code, message))
        case Interrupted():
            return plan_interruption(counters)
    if (outage := _outage(error)) is not None:
        return plan_outage(counters, outage, policy, jitter)
    if isinstance(error, AnbError):
        return plan_failure(counters, Problem(error.code, error.message), policy, jitter)
    message = f"The worker failed unexpectedly ({type(error).__name__})."
    return plan_failure(counters, Problem("internal_error", message, _detail(error)), policy, jitter)


def _outage(error: Exception) -> Problem | None:
    """Return the problem if `error` is an outage of the disk, database, bucket or queue, otherwise None."""
    match error:
        case Full(code=code):
            return Problem(code, _FULL, _detail(error))
        case Unavailable(code=code, part=part):
            return Problem(code, _OUTAGES.get(part, _OUTAGE), _detail(error))
        case Withheld(code=code):
            return Problem(code, _WITHHELD, _detail(error, error.__cause__))
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return Problem("scratch_unavailable", _OUTAGES["scratch"], _detail(error))
    return None


def _detail(*errors: BaseException | None) -> str:
    return "; ".join(f"{type(error).__name__}: {error}" for error in errors if error is not None)[:_MAX_DETAIL]
