"""The store's port for workers: claim a job, renew its lease, end its attempt."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from anb_core.domain.claim import Reason
from anb_core.domain.model import Lease, Record, Result
from anb_core.domain.retry import RetryPolicy, Settlement


@dataclass(frozen=True, slots=True)
class Claimed:
    """The result of a claim: the attempt may begin."""

    lease: Lease
    record: Record


@dataclass(frozen=True, slots=True)
class Dropped:
    """The result of a claim: no attempt may begin now. The worker can delete the message."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Unknown:
    """The result of a claim: the video does not exist."""


class Leases(Protocol):
    """The write operations of a worker. The result False means that the lease is lost and the attempt must stop."""

    def claim(
        self,
        video_id: str,
        *,
        generation: int | None,
        attempt_id: str,
        worker: str,
        version: str | None = None,
        lease: timedelta,
        policy: RetryPolicy,
    ) -> Claimed | Dropped | Unknown:
        """Decide with `judge_claim` whether an attempt begins, and apply the decision.

        A new attempt adds 1 to the fence. Every attempt needs a new `attempt_id`.
        `version` is the version of the worker's program, which is stored with the attempt.
        If the lease of the previous attempt has expired, the previous attempt is first settled as lost.
        The caller may repeat the call after an error. A repeated call with the same `attempt_id` changes nothing.
        If the job is not due yet, an outbox entry is added, because the received message may be the job's only message.
        """
        ...

    def renew(self, lease: Lease, *, duration: timedelta) -> bool:
        """Extend the lease to `duration` from now.

        A lease that has expired can still be extended, unless the attempt was already settled as lost.
        """
        ...

    def report_progress(self, lease: Lease, progress: float) -> bool:
        """Store the progress, from 0 to 1. A lower progress is ignored. Each whole percent adds at most one event."""
        ...

    def publish(self, lease: Lease, result: Result) -> bool:
        """Make `result` the job's current result. The attempt ends, and the status becomes `processed`.

        Returns True also if an earlier call has published the same `result`.
        The result objects of the job's other attempts are deleted as soon as possible, and again 24 h later.
        """
        ...

    def settle(self, lease: Lease, settlement: Settlement) -> bool:
        """End the attempt without a result and apply the settlement.

        The lease ends. Returns True also if an earlier call has made the same settlement.
        If another attempt follows, the job gets a due time and an outbox entry.
        If the job reached its limit of failures or losses, a dead letter is recorded.
        The result object of the attempt is deleted as soon as possible, and again 24 h later.
        """
        ...
