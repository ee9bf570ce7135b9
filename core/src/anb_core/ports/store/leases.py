"""The store's port for workers: claim a job, renew its lease, end its attempt."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from anb_core.domain.claim import Reason
from anb_core.domain.model import Lease, Record, Result
from anb_core.domain.retry import RetryPolicy, Settlement


@dataclass(frozen=True, slots=True)
class Claimed:
    """The answer to a claim: the attempt may begin."""

    lease: Lease
    record: Record


@dataclass(frozen=True, slots=True)
class Dropped:
    """The answer to a claim: no attempt may begin now, and the message may be deleted."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Unknown:
    """The answer to a claim: the video does not exist."""


class Leases(Protocol):
    """The write operations of a worker. If one returns False, the lease is lost, and the attempt must stop."""

    def claim(
        self,
        video_id: str,
        *,
        generation: int | None,
        attempt_id: str,
        worker: str,
        lease: timedelta,
        policy: RetryPolicy,
    ) -> Claimed | Dropped | Unknown:
        """Decide with `judge_claim` whether an attempt begins, and apply the decision.

        A new attempt increases the fence by 1. Every attempt has a new `attempt_id`.
        If the previous attempt's lease has expired, that attempt is first settled as lost.
        A caller that got no answer may repeat the call: a second call with the same `attempt_id` changes nothing.
        A job that is not due yet gets an outbox entry for its due time, because this may be the job's last message.
        """
        ...

    def renew(self, lease: Lease, *, duration: timedelta) -> bool:
        """Extend the lease to `duration` from now. An expired lease is valid again if no other worker took the job."""
        ...

    def report_progress(self, lease: Lease, progress: float) -> bool:
        """Store progress from 0 to 1, which never falls within an attempt. Each whole percent has at most one event."""
        ...

    def publish(self, lease: Lease, result: Result) -> bool:
        """Make this result the current result. The attempt ends, and the status becomes `processed`.

        A repeated call with a result that was published before returns True.
        The objects of the job's other attempts are deleted now, and again 24 h later.
        """
        ...

    def settle(self, lease: Lease, settlement: Settlement) -> bool:
        """End the attempt without a result and apply the settlement.

        The job's lease is cleared. A repeated call with the same settlement returns True.
        If another attempt follows, `not_before` and an outbox entry are set.
        If the job has used up its failures or losses, a dead letter is recorded.
        The attempt's object is deleted now, and again 24 h later.
        """
        ...
