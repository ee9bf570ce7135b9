"""A worker's store operations: claim a job, renew a lease, store progress, publish a result, settle an attempt."""

from datetime import timedelta

from sqlalchemy import Connection, select, update

from anb_core.adapters.database import feed
from anb_core.adapters.database.engine import Repository, now_plus
from anb_core.adapters.database.rows import apply, attempt_of, lock, put_in_outbox, result_keys, write_job
from anb_core.adapters.database.tables import attempts, jobs
from anb_core.domain import lifecycle
from anb_core.domain.claim import Drop, Reason, RecordLoss, Take, judge_claim
from anb_core.domain.model import Attempt, EventKind, Lease, Record, Result
from anb_core.domain.retry import RetryPolicy, Settlement
from anb_core.domain.status import Status
from anb_core.ports.store import Claimed, Dropped, Unknown


class LeasesRepository(Repository):
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
        def judge(connection: Connection) -> Claimed | Dropped | Unknown:
            locked = lock(connection, video_id)
            if locked is None:
                return Unknown()
            record = locked.record
            if locked.deleted:
                return Dropped(Reason.DELETED)
            if record.job.lease_owner == attempt_id:
                return Claimed(lifecycle.lease_of(record, _attempt(connection, attempt_id)), record)
            match judge_claim(record.job, generation, locked.now, policy):
                case Drop(reason, send_after):
                    if send_after:
                        put_in_outbox(connection, record, send_after, locked.now)
                    return Dropped(reason)
                case RecordLoss(loss):
                    apply(connection, locked, lifecycle.settle(record, loss, locked.now))
                    return Dropped(Reason.LOST)
                case Take(loss):
                    attempt = lifecycle.next_attempt(
                        record.job, locked.now, attempt_id=attempt_id, worker=worker, version=version
                    )
                    effect = lifecycle.claim(record, locked.now, attempt=attempt, lease=lease, loss=loss)
                    record = apply(connection, locked, effect)
                    return Claimed(lifecycle.lease_of(record, attempt), record)

        return self.database.repeatable(judge)

    def renew(self, lease: Lease, *, duration: timedelta) -> bool:
        with self.database.transaction() as connection:
            renewed = connection.execute(
                update(jobs)
                .where(
                    jobs.c.id == lease.job_id,
                    jobs.c.status == Status.PROCESSING,
                    jobs.c.fence == lease.fence,
                    jobs.c.lease_owner == lease.attempt_id,
                )
                .values(lease_expires_at=now_plus(duration))
            )
            return renewed.rowcount == 1

    def report_progress(self, lease: Lease, progress: float) -> bool:
        with self.database.transaction() as connection:
            locked = lock(connection, lease.video_id)
            if locked is None or not lifecycle.holds(locked.record.job, lease):
                return False
            step = lifecycle.progressed(locked.record.job, progress, locked.now)
            if step:
                job, new_percent = step
                write_job(connection, locked.record.job, job)
                if new_percent:
                    feed.append_event(connection, Record(locked.record.video, job), EventKind.PROGRESS)
            return True

    def publish(self, lease: Lease, result: Result) -> bool:
        def publish(connection: Connection) -> bool:
            locked = lock(connection, lease.video_id)
            if locked is None:
                return False
            if not lifecycle.holds(locked.record.job, lease):
                return lifecycle.published_before(locked.record.job, result)
            # The first claim of a job has the fence 1. Then there is no other attempt whose key must be read.
            keys = result_keys(connection, lease.job_id) if lease.fence > 1 else []
            apply(connection, locked, lifecycle.publish(locked.record, result, locked.now, attempt_keys=keys))
            return True

        return self.database.repeatable(publish)

    def settle(self, lease: Lease, settlement: Settlement) -> bool:
        def settle(connection: Connection) -> bool:
            locked = lock(connection, lease.video_id)
            if locked is None:
                return False
            if not lifecycle.holds(locked.record.job, lease):
                return lifecycle.settled_before(_attempt(connection, lease.attempt_id), lease, settlement)
            apply(connection, locked, lifecycle.settle(locked.record, settlement, locked.now))
            return True

        return self.database.repeatable(settle)


def _attempt(connection: Connection, attempt_id: str) -> Attempt:
    return attempt_of(connection.execute(select(attempts).where(attempts.c.id == attempt_id)).one())
