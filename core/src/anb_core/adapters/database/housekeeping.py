"""The store's part of the sweep: expired leases and uploads, lost messages, due deletions and old rows."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, or_, select, tuple_, update

from anb_core.adapters.database.dead_letter_rows import OPEN
from anb_core.adapters.database.engine import Repository, clock, insert, now_plus, passed
from anb_core.adapters.database.rows import Locked, apply, lock
from anb_core.adapters.database.tables import (
    dead_letters,
    idempotency_keys,
    job_events,
    jobs,
    locks,
    object_deletions,
    outbox,
    videos,
    waiting,
)
from anb_core.adapters.database.uploads import abandon
from anb_core.adapters.database.usage import merge_usage
from anb_core.domain import lifecycle
from anb_core.domain.dead_letters import SHORT_BODY
from anb_core.domain.errors import Unreadable
from anb_core.domain.model import Deletion, DeletionReason
from anb_core.domain.overdue import Waiting, overdue
from anb_core.domain.retry import RetryPolicy, plan_loss


class HousekeepingRepository(Repository):
    """Implements `anb_core.ports.store.Housekeeping`."""

    @contextmanager
    def exclusively(self, name: str, *, lifetime: timedelta) -> Iterator[bool]:
        holder = str(uuid4())
        fields = {"holder": holder, "expires_at": now_plus(lifetime)}

        def take(connection: Connection) -> bool:
            taken = connection.scalar(
                insert(connection, locks)
                .values(name=name, **fields)
                .on_conflict_do_update(
                    index_elements=[locks.c.name],
                    set_=fields,
                    where=or_(locks.c.expires_at <= now_plus(), locks.c.holder == holder),
                )
                .returning(locks.c.holder)
            )
            return taken is not None

        ours = self.database.repeatable(take)
        try:
            yield ours
        finally:
            if ours:
                with self.database.transaction() as connection:
                    connection.execute(delete(locks).where(locks.c.name == name, locks.c.holder == holder))

    def end_expired_leases(self, *, limit: int, policy: RetryPolicy) -> int:
        return self._end_each(
            jobs.c.lease_expires_at, limit, lambda connection, locked: _end_lease(connection, locked, policy)
        )

    def end_expired_uploads(self, *, limit: int) -> int:
        return self._end_each(jobs.c.upload_expires_at, limit, _end_upload)

    def _end_each(
        self, expires: ColumnElement[datetime | None], limit: int, end: Callable[[Connection, Locked], bool]
    ) -> int:
        """Call `end` for up to `limit` jobs whose time in the column `expires` has passed.

        Each call has a transaction of its own, in which the job is locked.
        `end` returns False if another transaction extended the time between the search and the lock.
        Jobs that can't be read, or that another transaction has locked, are skipped.
        Returns the number of calls that returned True.
        """
        ended, tried = 0, set[str]()
        while ended < limit:
            wanted = select(jobs.c.video_id).where(passed(expires)).order_by(expires).limit(limit - ended)
            if tried:
                wanted = wanted.where(jobs.c.video_id.not_in(sorted(tried)))
            with self.database.reading() as connection:
                found = connection.scalars(wanted).all()
            if not found:
                break
            tried.update(found)
            for video_id in found:
                try:
                    with self.database.transaction() as connection:
                        locked = lock(connection, video_id, wait=False)
                        ended += locked is not None and end(connection, locked)
                except Unreadable as error:
                    self.database.report(error)
        return ended

    def requeue_unclaimed(
        self,
        *,
        enqueued_before: timedelta | None = None,
        on: str | None = None,
        not_on: Collection[str] = (),
        limit: int,
    ) -> int:
        # A job whose message was never sent also gets a message. A superfluous message is harmless.
        message_lost: list[ColumnElement[bool]] = [jobs.c.enqueued_at.is_(None)]
        if enqueued_before is not None:
            sent_long_ago = passed(jobs.c.enqueued_at, enqueued_before)
            message_lost.append(sent_long_ago if on is None else and_(sent_long_ago, jobs.c.enqueued_to == on))
        if not_on:
            message_lost.append(jobs.c.enqueued_to.not_in(not_on))
        if enqueued_before is None and not not_on:
            raise ValueError("requeue_unclaimed needs enqueued_before or not_on")
        with self.database.transaction() as connection:
            return _requeue(connection, or_(*message_lost), limit)

    def requeue_overdue(self, *, slack: timedelta, limit: int) -> int:
        first = (
            select(jobs.c.id, jobs.c.updated_at, jobs.c.not_before, jobs.c.enqueued_at)
            .where(waiting(), _due(), jobs.c.enqueued_at.is_not(None))
            .order_by(jobs.c.updated_at, jobs.c.id)
            .limit(limit)
        )
        leased = select(jobs.c.enqueued_at).where(jobs.c.lease_expires_at.is_not(None), jobs.c.enqueued_at.is_not(None))
        with self.database.transaction() as connection:
            under_way = connection.scalars(leased).all()
            found = [
                Waiting(row.id, since=max(row.updated_at, row.not_before or row.updated_at), sent=row.enqueued_at)
                for row in connection.execute(first)
            ]
            late = overdue(found, under_way, clock(connection), slack)
            return _requeue(connection, jobs.c.id.in_(late), limit) if late else 0

    def hold_deletions(self, *, limit: int, hold: timedelta) -> Sequence[Deletion]:
        due = (
            select(object_deletions.c.id, object_deletions.c.key, object_deletions.c.reason)
            # Skip rows whose reason this version does not know. A newer program deletes their objects.
            .where(passed(object_deletions.c.delete_after), object_deletions.c.reason.in_(list(DeletionReason)))
            .order_by(object_deletions.c.delete_after, object_deletions.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with self.database.transaction() as connection:
            held = [Deletion(row.id, row.key, DeletionReason(row.reason)) for row in connection.execute(due)]
            if held:
                connection.execute(
                    update(object_deletions)
                    .where(object_deletions.c.id.in_([deletion.id for deletion in held]))
                    .values(delete_after=now_plus(hold))
                )
        return held

    def deletion_done(self, deletions: Collection[Deletion]) -> None:
        with self.database.transaction() as connection:
            connection.execute(
                delete(object_deletions).where(object_deletions.c.id.in_([deletion.id for deletion in deletions]))
            )

    def purge(self, *, events_before: timedelta, dead_letters_before: timedelta, limit: int) -> int:
        old = select(job_events.c.id).where(passed(job_events.c.at, events_before))
        key = tuple_(idempotency_keys.c.owner, idempotency_keys.c.key)
        stale = select(idempotency_keys.c.owner, idempotency_keys.c.key).where(passed(idempotency_keys.c.expires_at))
        # The join also locks the job, which is deleted together with its video.
        purgeable = (
            select(videos.c.id)
            .join(jobs, jobs.c.video_id == videos.c.id)
            .where(
                passed(videos.c.purge_after),
                ~exists().where(object_deletions.c.video_id == videos.c.id),
            )
        )
        # The condition on `created_at` lets the query use an index. It excludes no row that has to be removed.
        resolved = select(dead_letters.c.id).where(
            passed(dead_letters.c.created_at, dead_letters_before),
            passed(dead_letters.c.resolved_at, dead_letters_before),
        )
        body = dead_letters.c.body
        long = select(dead_letters.c.id).where(
            OPEN, passed(dead_letters.c.created_at, dead_letters_before), func.length(body) > SHORT_BODY
        )
        old, stale, purgeable, resolved, long = (
            found.limit(limit).with_for_update(skip_locked=True) for found in (old, stale, purgeable, resolved, long)
        )
        with self.database.transaction() as connection:
            merge_usage(connection)
        with self.database.transaction() as connection:
            return sum(
                connection.execute(statement).rowcount
                for statement in (
                    delete(job_events).where(job_events.c.id.in_(old)),
                    delete(idempotency_keys).where(key.in_(stale)),
                    delete(videos).where(videos.c.id.in_(purgeable)),
                    delete(dead_letters).where(dead_letters.c.id.in_(resolved)),
                    update(dead_letters)
                    .where(dead_letters.c.id.in_(long))
                    .values(body=func.substr(body, 1, SHORT_BODY)),
                )
            )


def _end_lease(connection: Connection, locked: Locked, policy: RetryPolicy) -> bool:
    job = locked.record.job
    if job.lease_expires_at is None or job.lease_expires_at > locked.now:
        return False
    loss = plan_loss(job.counters, policy)
    apply(connection, locked, lifecycle.settle(locked.record, loss, locked.now))
    return True


def _end_upload(connection: Connection, locked: Locked) -> bool:
    if locked.upload_expires_at is None or locked.upload_expires_at > locked.now:
        return False
    abandon(connection, locked)
    return True


def _due() -> ColumnElement[bool]:
    return or_(jobs.c.not_before.is_(None), passed(jobs.c.not_before))


def _requeue(connection: Connection, which: ColumnElement[bool], limit: int) -> int:
    """Add outbox entries for up to `limit` waiting jobs that match `which`, are due and have no entry.

    Returns the number of added entries.
    """
    forgotten = (
        select(jobs.c.id.label("job_id"), videos.c.owner)
        .join(videos, videos.c.id == jobs.c.video_id)
        .where(waiting(), _due(), which, ~exists().where(outbox.c.job_id == jobs.c.id))
        .limit(limit)
        .with_for_update(of=jobs, skip_locked=True)
    )
    found = connection.execute(forgotten).all()
    if not found:
        return 0
    now = clock(connection)
    # Ignore a conflict: another transaction may have added an entry since the query above.
    added = connection.execute(
        insert(connection, outbox)
        .values([{**row._mapping, "send_after": now, "tries": 0, "created_at": now} for row in found])  # noqa: SLF001 - public API of SQLAlchemy
        .on_conflict_do_nothing(index_elements=[outbox.c.job_id])
        .returning(outbox.c.id)
    )
    return len(added.all())
