"""The store's part of the sweep: expired leases and uploads, lost messages, due deletions and old rows."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from anb_core.domain import lifecycle
from anb_core.domain.model import (
    Deletion,
    Job,
)
from anb_core.domain.overdue import Waiting, overdue
from anb_core.domain.retry import RetryPolicy, plan_loss
from anb_core.domain.status import Status
from anb_core.testing.store.dead_letters import shortened
from anb_core.testing.store.tables import Tables


class InMemoryHousekeeping(Tables):
    """Implements `anb_core.ports.store.Housekeeping`."""

    @contextmanager
    def exclusively(self, name: str, *, lifetime: timedelta) -> Iterator[bool]:
        holder = self.new_id()
        with self.transaction() as now:
            taken = self.locks.get(name)
            ours = taken is None or taken[1] <= now
            if ours:
                self.locks[name] = (holder, now + lifetime)
        try:
            yield ours
        finally:
            with self.lock:
                if self.locks.get(name, ("", None))[0] == holder:
                    del self.locks[name]

    def end_expired_leases(self, *, limit: int, policy: RetryPolicy) -> int:
        with self.transaction() as now:
            expired = [row for row in self.readable() if row.job.lease_expires_at and row.job.lease_expires_at <= now]
            for row in expired[:limit]:
                self.apply(row, lifecycle.settle(row.record, plan_loss(row.job.counters, policy), now), now)
            return len(expired[:limit])

    def end_expired_uploads(self, *, limit: int) -> int:
        with self.transaction() as now:
            expired = [row for row in self.readable() if row.upload_expires_at and row.upload_expires_at <= now]
            for row in expired[:limit]:
                self.abandon(row, now)
            return len(expired[:limit])

    def requeue_unclaimed(
        self,
        *,
        enqueued_before: timedelta | None = None,
        on: str | None = None,
        not_on: Collection[str] = (),
        limit: int,
    ) -> int:
        if enqueued_before is None and not not_on:
            raise ValueError("requeue_unclaimed needs enqueued_before or not_on")
        with self.transaction() as now:
            forgotten = [
                row.job
                for row in self.rows.values()
                if _waits(row.job, now)
                and row.job.video_id not in self.outbox
                and (
                    # A job whose message was never sent also gets a message. A superfluous message is harmless.
                    row.job.enqueued_at is None
                    or (enqueued_before is not None and _sent(row.job, before=now - enqueued_before, on=on))
                    or (bool(not_on) and row.job.enqueued_to not in not_on)
                )
            ]
            for job in forgotten[:limit]:
                self.put_in_outbox(job, now, now)
            return len(forgotten[:limit])

    def requeue_overdue(self, *, slack: timedelta, limit: int) -> int:
        with self.transaction() as now:
            jobs = sorted(
                (row.job for row in self.rows.values() if _waits(row.job, now)),
                key=lambda job: (job.updated_at, job.id),
            )
            found = [
                Waiting(job.id, since=max(job.updated_at, job.not_before or job.updated_at), sent=job.enqueued_at)
                for job in jobs
                if job.enqueued_at
            ]
            leased = [row.job.enqueued_at for row in self.rows.values() if row.job.lease_owner and row.job.enqueued_at]
            late = set(overdue(found[:limit], leased, now, slack))
            again = [job for job in jobs if job.id in late and job.video_id not in self.outbox]
            for job in again:
                self.put_in_outbox(job, now, now)
            return len(again)

    def hold_deletions(self, *, limit: int, hold: timedelta) -> Sequence[Deletion]:
        with self.transaction() as now:
            due = sorted((kept for kept in self.deletions if kept.due <= now), key=lambda kept: (kept.due, kept.id))
            for kept in due[:limit]:
                kept.held_until = now + hold
            return [Deletion(kept.id, kept.scheduled.key, kept.scheduled.reason) for kept in due[:limit]]

    def deletion_done(self, deletions: Collection[Deletion]) -> None:
        with self.transaction():
            done = {deletion.id for deletion in deletions}
            self.deletions[:] = [kept for kept in self.deletions if kept.id not in done]

    def purge(self, *, events_before: timedelta, dead_letters_before: timedelta, limit: int) -> int:
        with self.transaction() as now:
            old = [event.id for event in self.events if event.at < now - events_before][:limit]
            self.events[:] = [event for event in self.events if event.id not in old]
            stale = [key for key, kept in self.keys.items() if kept.expires_at <= now][:limit]
            for key in stale:
                del self.keys[key]
            waiting = {kept.video_id for kept in self.deletions}
            purgeable = [
                video_id
                for video_id, row in self.rows.items()
                if row.purge_after and row.purge_after <= now and video_id not in waiting
            ][:limit]
            for video_id in purgeable:
                del self.rows[video_id]
            letters = self._purge_letters(now - dead_letters_before, limit)
            return len(old) + len(stale) + len(purgeable) + letters

    def _purge_letters(self, before: datetime, limit: int) -> int:
        resolved = [one.id for one in self.letters if one.resolved_at and one.resolved_at <= before][:limit]
        long = [one.id for one in self.letters if one.open and one.created_at <= before and one != shortened(one)]
        self.letters = [
            shortened(one) if one.id in long[:limit] else one for one in self.letters if one.id not in resolved
        ]
        return len(resolved) + len(long[:limit])


def _waits(job: Job, now: datetime) -> bool:
    return (
        job.status in {Status.UPLOADED, Status.PROCESSING}
        and job.lease_owner is None
        and (job.not_before is None or job.not_before <= now)
    )


def _sent(job: Job, *, before: datetime, on: str | None) -> bool:
    return job.enqueued_at is not None and job.enqueued_at < before and on in {None, job.enqueued_to}
