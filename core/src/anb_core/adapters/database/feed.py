"""The feed: every change of a job, in commit order. A reader of the feed can store a cursor."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Insert, Row, Select, func, select
from sqlalchemy import insert as plain_insert

from anb_core.adapters.database.engine import Repository, decoding, insert, is_postgresql, now_plus
from anb_core.adapters.database.statements import Change, bound, named
from anb_core.adapters.database.tables import feed_cursors, job_events
from anb_core.domain.model import EventKind, JobEvent, Problem, Record
from anb_core.domain.status import Status

FEED_LOCK = 0x616E6266
"""Key of PostgreSQL's advisory lock. The lock lets only one transaction at a time append to the feed."""


_COLUMNS = (
    *("kind", "video_id", "job_id", "owner", "version", "status"),
    *("progress", "error_code", "error_message"),
)


def _appending(*, in_turn: bool) -> Insert:
    row = select(*bound("new", job_events, *_COLUMNS).values(), now_plus())
    if in_turn:
        # One statement takes the lock and inserts the row, so that all other writers wait for a short time only.
        row = row.select_from(select(func.pg_advisory_xact_lock(FEED_LOCK)).cte("turn"))
    return plain_insert(job_events).from_select([*_COLUMNS, "at"], row)


# These statements are built only once, because one of them runs for every change of a job.
_APPEND, _APPEND_IN_TURN = _appending(in_turn=False), _appending(in_turn=True)


def append_event(connection: Connection, record: Record, kind: EventKind, error: Problem | None = None) -> None:
    """Append an event. This must be the transaction's last statement."""
    connection.execute(*appending(connection, record, kind, error))


def appending(connection: Connection, record: Record, kind: EventKind, error: Problem | None = None) -> Change:
    """Return the change that appends an event. Its statement must be the transaction's last statement.

    Ids must grow in commit order. Otherwise a reader that continues after the last id that it read would miss events.
    On PostgreSQL, the transaction takes an advisory lock before it gets an id, and keeps the lock until its commit.
    SQLite needs no such lock, because SQLite has one writer at a time.
    """
    job = record.job
    values: dict[str, Any] = {
        "kind": kind,
        "video_id": record.video.id,
        "job_id": job.id,
        "owner": record.video.owner,
        "version": job.version,
        "status": job.status,
        "progress": job.progress,
        "error_code": error and error.code,
        "error_message": error and error.message,
    }
    statement = _APPEND_IN_TURN if is_postgresql(connection) else _APPEND
    return Change(statement, named("new", values))


class FeedRepository(Repository):
    """Implements `anb_core.ports.store.Feed`."""

    def events_after(self, event_id: int, *, video_id: str | None = None, limit: int = 500) -> Sequence[JobEvent]:
        wanted = select(job_events).order_by(job_events.c.id)
        if video_id is not None:
            wanted = wanted.where(job_events.c.video_id == video_id)

        def page(last: Row[Any] | None) -> Select[Any]:
            return wanted.where(job_events.c.id > (last.id if last else event_id))

        return self.read_pages(page, event_of, limit=limit)

    def last_event_id(self) -> int:
        with self.database.reading() as connection:
            return connection.scalar(select(func.max(job_events.c.id))) or 0

    def cursor(self, name: str) -> int | None:
        with self.database.reading() as connection:
            return connection.scalar(select(feed_cursors.c.event_id).where(feed_cursors.c.name == name))

    def move_cursor(self, name: str, event_id: int) -> None:
        with self.database.transaction() as connection:
            connection.execute(
                insert(connection, feed_cursors)
                .values(name=name, event_id=event_id)
                .on_conflict_do_update(index_elements=[feed_cursors.c.name], set_={"event_id": event_id})
            )


def event_of(row: Row[Any]) -> JobEvent:
    """Convert a row of the table `job_events`.

    Raises:
        Unreadable: `event_unreadable` if this version of the program can't read a value.
    """
    with decoding("event_unreadable", "some events of the feed"):
        return JobEvent(
            id=row.id,
            kind=EventKind(row.kind),
            video_id=row.video_id,
            job_id=row.job_id,
            owner=row.owner,
            version=row.version,
            status=Status(row.status),
            progress=row.progress,
            at=row.at,
            error=None if row.error_code is None else Problem(row.error_code, row.error_message),
        )
