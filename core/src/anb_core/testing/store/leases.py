"""A worker's store operations: claim a job, renew a lease, store progress, publish a result, settle an attempt."""

from dataclasses import replace
from datetime import timedelta

from anb_core.domain import lifecycle
from anb_core.domain.claim import Drop, Reason, RecordLoss, Take, judge_claim
from anb_core.domain.model import (
    EventKind,
    Lease,
    Result,
)
from anb_core.domain.retry import RetryPolicy, Settlement
from anb_core.ports.store import (
    Claimed,
    Dropped,
    Unknown,
)
from anb_core.testing.store.tables import Row, Tables


class InMemoryLeases(Tables):
    """Implements `anb_core.ports.store.Leases`."""

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
        with self.transaction() as now:
            row = self.find(video_id)
            if row is None:
                return Unknown()
            if row.deleted_at:
                return Dropped(Reason.DELETED)
            if row.job.lease_owner == attempt_id:
                return Claimed(lifecycle.lease_of(row.record, row.attempts[-1]), row.record)
            match judge_claim(row.job, generation, now, policy):
                case Drop(reason, send_after):
                    if send_after:
                        self.put_in_outbox(row.job, send_after, now)
                    return Dropped(reason)
                case RecordLoss(loss):
                    self.apply(row, lifecycle.settle(row.record, loss, now), now)
                    return Dropped(Reason.LOST)
                case Take(loss):
                    attempt = lifecycle.next_attempt(
                        row.job, now, attempt_id=attempt_id, worker=worker, version=version
                    )
                    record = self.apply(
                        row, lifecycle.claim(row.record, now, attempt=attempt, lease=lease, loss=loss), now
                    )
                    return Claimed(lifecycle.lease_of(record, attempt), record)

    def renew(self, lease: Lease, *, duration: timedelta) -> bool:
        with self.transaction() as now:
            row = self._held(lease)
            if row is None:
                return False
            row.record = replace(row.record, job=replace(row.job, lease_expires_at=now + duration))
            return True

    def report_progress(self, lease: Lease, progress: float) -> bool:
        with self.transaction() as now:
            self.find(lease.video_id)
            row = self._held(lease)
            if row is None:
                return False
            step = lifecycle.progressed(row.job, progress, now)
            if step is not None:
                job, new_percent = step
                row.record = replace(row.record, job=job)
                if new_percent:
                    self.append_event(row.record, EventKind.PROGRESS, now)
            return True

    def publish(self, lease: Lease, result: Result) -> bool:
        with self.transaction() as now:
            row = self.find(lease.video_id)
            if row is None:
                return False
            if not lifecycle.holds(row.job, lease):
                return lifecycle.published_before(row.job, result)
            keys = [attempt.result_key for attempt in row.attempts]
            self.apply(row, lifecycle.publish(row.record, result, now, attempt_keys=keys), now)
            return True

    def settle(self, lease: Lease, settlement: Settlement) -> bool:
        with self.transaction() as now:
            row = self.find(lease.video_id)
            if row is None:
                return False
            if not lifecycle.holds(row.job, lease):
                return any(lifecycle.settled_before(attempt, lease, settlement) for attempt in row.attempts)
            self.apply(row, lifecycle.settle(row.record, settlement, now), now)
            return True

    def _held(self, lease: Lease) -> Row | None:
        row = self.rows.get(lease.video_id)
        return row if row and lifecycle.holds(row.job, lease) else None
