"""The outbox: messages that relays have to send."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    delete,
    false,
    func,
    or_,
    select,
    true,
    union_all,
    update,
)

from anb_core.adapters.database.engine import Repository, is_postgresql, now_plus, passed
from anb_core.adapters.database.tables import EPOCH, jobs, outbox, videos, waiting
from anb_core.domain.fairness import Due, in_fair_order, sent_earlier
from anb_core.ports.store import OutboxEntry, QueueLimit

RELAY_LOCK = 0x616E6272
"""Key of PostgreSQL's advisory lock. The lock lets only one relay at a time choose entries.
Otherwise two relays could choose the same entries, or send more messages than the queue has room for.
"""


def _first_of_each_owner() -> Select[Any]:
    """Return a query for the owners in the outbox, and the time at which each owner's first due entry became due.

    The rows begin with the earliest time. The time is None if the owner has no due entry. The parameter `most` is the
    maximum number of rows. The query jumps in the index from one owner to the next, and does not read all entries.
    """
    owners = select(func.min(outbox.c.owner).label("owner")).cte("owners", recursive=True)
    following = select(func.min(outbox.c.owner)).where(outbox.c.owner > owners.c.owner).scalar_subquery()
    owners = owners.union_all(select(following).where(owners.c.owner.is_not(None)))
    first = select(func.min(outbox.c.send_after)).where(outbox.c.owner == owners.c.owner, passed(outbox.c.send_after))
    send_after = first.scalar_subquery().label("send_after")
    in_order = select(owners.c.owner, send_after).order_by(send_after.nulls_last(), owners.c.owner)
    return in_order.limit(bindparam("most"))


_FIRST_OF_EACH_OWNER = _first_of_each_owner()


class OutboxRepository(Repository):
    """Implements `anb_core.ports.store.Outbox`."""

    def hold_outbox(
        self, *, limit: int, hold: timedelta, queue_limit: QueueLimit | None = None
    ) -> Sequence[OutboxEntry]:
        with self.database.transaction() as connection:
            if is_postgresql(connection):
                connection.execute(select(func.pg_advisory_xact_lock(RELAY_LOCK)))
            flying: Mapping[str, int] = {}
            if queue_limit:
                rows = connection.execute(in_flight(queue_limit.queue)).all()
                flying = {row.owner: row.jobs for row in rows}
                limit = min(limit, queue_limit.messages - sum(row.waiting for row in rows))
            chosen = _choose(connection, flying, limit) if limit > 0 else []
            return _hold(connection, [entry.id for entry in chosen], hold) if chosen else []

    def mark_sent(self, entry: OutboxEntry, *, broker: str) -> None:
        with self.database.transaction() as connection:
            # Lock the job before its outbox entry, as all other transactions do. This order prevents deadlocks.
            connection.execute(
                update(jobs).where(jobs.c.id == entry.task_id).values(enqueued_at=now_plus(), enqueued_to=broker)
            )
            connection.execute(delete(outbox).where(_still_held(entry)))

    def mark_unsent(self, entry: OutboxEntry, *, delay: timedelta) -> None:
        with self.database.transaction() as connection:
            connection.execute(
                update(outbox)
                .where(_still_held(entry))
                .values(send_after=now_plus(delay), token=None, tries=outbox.c.tries + 1)
            )


def count_ahead(connection: Connection, video_id: str) -> int:
    """Return about how many messages in the outbox are sent earlier than the video's message."""
    message = (
        select(outbox.c.owner, outbox.c.send_after, outbox.c.id)
        .join(jobs, jobs.c.id == outbox.c.job_id)
        .where(jobs.c.video_id == video_id)
    )
    row = connection.execute(message).one_or_none()
    if row is None:
        return 0
    earlier = or_(
        outbox.c.send_after < row.send_after, and_(outbox.c.send_after == row.send_after, outbox.c.id < row.id)
    )
    counted = (
        select(outbox.c.owner, func.count().label("due"), func.count().filter(earlier).label("earlier"))
        .where(passed(outbox.c.send_after))
        .group_by(outbox.c.owner)
    )
    due = {owner: (many, before) for owner, many, before in connection.execute(counted)}
    flying = {owner: many for owner, many, _ in connection.execute(in_flight(None))}
    _, own = due.get(row.owner, (0, 0))
    return sent_earlier(row.owner, own, {owner: many for owner, (many, _) in due.items()}, flying)


def in_flight(queue: str | None) -> Select[Any]:
    """Return a query that counts each owner's jobs that run, or whose message was sent and not received yet.

    Columns: `owner`, `jobs`, and `waiting`, the number of these jobs whose message waits in the queue `queue`.
    """
    owners = select(videos.c.owner).join(jobs, jobs.c.video_id == videos.c.id)
    # A scalar subquery makes PostgreSQL look up each job, instead of reading the whole outbox.
    unsent = select(outbox.c.id).where(outbox.c.job_id == jobs.c.id).scalar_subquery()
    each = union_all(
        owners.add_columns(false().label("waits")).where(jobs.c.lease_expires_at.is_not(None)),
        owners.add_columns(jobs.c.enqueued_to == queue).where(
            # SQLite would not use its index for the condition IS NOT NULL.
            waiting(),
            jobs.c.enqueued_at > EPOCH,
            unsent.is_(None),
        ),
        # A relay sends these messages now.
        select(outbox.c.owner, true()).where(outbox.c.token.is_not(None), ~passed(outbox.c.send_after)),
    ).subquery("each")
    return select(
        each.c.owner,
        func.count().label("jobs"),
        func.count().filter(each.c.waits).label("waiting"),
    ).group_by(each.c.owner)


def _choose(connection: Connection, flying: Mapping[str, int], limit: int) -> Sequence[Due]:
    """Return the first `limit` due entries in the fair order.

    All of these entries belong to the `limit` owners whose first entries come first. So the query reads only the first
    entry of each other owner, and its duration does not depend on the number of entries in the outbox.
    """
    # The owners with nothing in flight come first, so only `limit` of them are needed, beside all others.
    rows = connection.execute(_FIRST_OF_EACH_OWNER, {"most": limit + len(flying)})
    due = [Due(row.owner, row.send_after, 0) for row in rows if row.send_after]
    if not due:
        return []
    entries = union_all(
        *(
            select(
                select(outbox.c.owner, outbox.c.send_after, outbox.c.id)
                .where(outbox.c.owner == first.owner, passed(outbox.c.send_after))
                .order_by(outbox.c.send_after, outbox.c.id)
                .limit(limit)
                .subquery("next")
            )
            for first in in_fair_order(due, flying)[:limit]
        )
    )
    return in_fair_order((Due(*row) for row in connection.execute(entries)), flying)[:limit]


def _hold(connection: Connection, ids: Sequence[int], hold: timedelta) -> Sequence[OutboxEntry]:
    """Hold the entries with these ids, except entries that another transaction has locked or changed meanwhile."""
    wanted = (
        select(
            outbox.c.id,
            outbox.c.created_at,
            outbox.c.tries,
            outbox.c.job_id,
            jobs.c.generation,
            jobs.c.video_id,
            videos.c.owner,
            videos.c.source_key,
        )
        .join(jobs, jobs.c.id == outbox.c.job_id)
        .join(videos, videos.c.id == jobs.c.video_id)
        .where(outbox.c.id.in_(ids), passed(outbox.c.send_after))
        .with_for_update(of=outbox, skip_locked=True)
    )
    token = str(uuid4())
    entries = {
        row.id: OutboxEntry(
            id=row.id,
            token=token,
            video_id=row.video_id,
            task_id=row.job_id,
            owner=row.owner,
            generation=row.generation,
            key=row.source_key,
            created_at=row.created_at,
            tries=row.tries,
        )
        for row in connection.execute(wanted)
    }
    if entries:
        connection.execute(
            update(outbox).where(outbox.c.id.in_(entries)).values(token=token, send_after=now_plus(hold))
        )
    return [entries[number] for number in ids if number in entries]


def _still_held(entry: OutboxEntry) -> ColumnElement[bool]:
    return and_(outbox.c.id == entry.id, outbox.c.token == entry.token)
