"""The usage of owners, which limits apply to: unfinished videos and stored bytes."""

from collections import defaultdict

from sqlalchemy import Connection, delete, func, select
from sqlalchemy import insert as plain_insert

from anb_core.adapters.database.engine import is_postgresql, passed
from anb_core.adapters.database.feed import FEED_LOCK
from anb_core.adapters.database.tables import attempts, usage
from anb_core.domain.limits import PACE_WINDOW, Limits, Usage, find_excess, refusal, upload_of

MERGED_AT_ONCE = 10_000
"""Maximum number of rows that one transaction merges. Between two runs of the sweep, triggers add far fewer rows."""


def reserve(connection: Connection, video_id: str, owner: str, size: int | None) -> None:
    """Count the announced `size` of an upload as stored until the upload ends. In bytes, or None if unknown."""
    connection.execute(
        plain_insert(usage).values(
            owner=owner, unfinished=0, stored_bytes=upload_of(size).stored_bytes, video_id=video_id
        )
    )


def lock_usage(connection: Connection) -> None:
    """Wait until other transactions that change the usage have ended, and let later ones wait for this transaction.

    All transactions that change the usage also add an event to the feed. So this function takes the lock of the feed.
    SQLite needs no lock, because SQLite has one writer at a time.
    """
    if is_postgresql(connection):
        connection.execute(select(func.pg_advisory_xact_lock(FEED_LOCK)))


def check_limits(connection: Connection, limits: Limits, owner: str, more: Usage) -> None:
    """Check that the usage plus `more` is within the limits.

    Raises:
        LimitReached: `backlog_full` or `quota_exceeded`.
    """
    of_owner = usage_of(connection, owner) + more if limits.per_owner else Usage()
    of_all = usage_of(connection, None) + more if limits.in_all else Usage()
    if excess := find_excess(limits, owner=of_owner, in_all=of_all):
        begun = select(func.count()).select_from(attempts).where(~passed(attempts.c.started_at, PACE_WINDOW))
        raise refusal(excess, connection.scalar(begun) or 0)


def usage_of(connection: Connection, owner: str | None) -> Usage:
    """Return the usage of an owner. None means all owners together."""
    wanted = select(func.coalesce(func.sum(usage.c.unfinished), 0), func.coalesce(func.sum(usage.c.stored_bytes), 0))
    if owner is not None:
        wanted = wanted.where(usage.c.owner == owner)
    unfinished, stored_bytes = connection.execute(wanted).one()
    return Usage(int(unfinished), int(stored_bytes))


def merge_usage(connection: Connection) -> None:
    """For each owner with several rows, replace the rows by one row with their sum, or by none if the sum is zero.

    The rows with the announced sizes of running uploads stay.
    """
    several = select(usage.c.owner).where(usage.c.video_id.is_(None)).group_by(usage.c.owner).having(func.count() > 1)
    rows = connection.execute(
        select(usage)
        .where(usage.c.video_id.is_(None), usage.c.owner.in_(several))
        .order_by(usage.c.owner)
        .limit(MERGED_AT_ONCE)
        .with_for_update(skip_locked=True)
    ).all()
    sums: defaultdict[str, Usage] = defaultdict(Usage)
    for row in rows:
        sums[row.owner] += Usage(row.unfinished, row.stored_bytes)
    if rows:
        connection.execute(delete(usage).where(usage.c.id.in_([row.id for row in rows])))
    kept = [
        {"owner": owner, "unfinished": one.unfinished, "stored_bytes": one.stored_bytes}
        for owner, one in sums.items()
        if one != Usage()
    ]
    if kept:
        connection.execute(plain_insert(usage), kept)
