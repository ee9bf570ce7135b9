"""Dead letters in the database."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, func, literal, select, tuple_, update

from anb_core.adapters.database import feed
from anb_core.adapters.database.dead_letter_rows import OPEN, SHORTENED, WHOLE, add_dead_letter, dead_letter_of
from anb_core.adapters.database.engine import Repository, clock, decoding, now_plus, passed
from anb_core.adapters.database.rows import Locked, apply, last_attempt, lock, put_in_outbox, write_job
from anb_core.adapters.database.tables import Time, dead_letters, outbox
from anb_core.domain import lifecycle
from anb_core.domain.dead_letters import (
    DeadLetter,
    DeadLetterFilter,
    DeadLetterPage,
    Resolution,
    after_discard,
    check_open,
    judge_arrival,
    not_found,
    of_arrival,
    stored_body,
    without_video,
)
from anb_core.domain.model import DeadLetterCause, EventKind, Record
from anb_core.domain.retry import RetryPolicy
from anb_core.ports.store import Unknown

MAX_ID_BITS = 63
"""Maximum number of bits of an id. The databases refuse a query with a number that has more bits."""

_BY_ID = dead_letters.c.id == bindparam("dead_letter_id")
_ONE = WHOLE.where(_BY_ID)
_VIDEO_ID = select(dead_letters.c.video_id).where(_BY_ID)


class DeadLettersRepository(Repository):
    """Implements `anb_core.ports.store.DeadLetters`."""

    def record_dead_letter(self, *, cause: DeadLetterCause, message_id: str, body: str, detail: str) -> bool:
        with self.database.transaction() as connection:
            letter = DeadLetter(0, cause, detail, clock(connection), message_id=message_id, body=stored_body(body))
            return add_dead_letter(connection, letter) is not None

    def receive_dead_letter(
        self, *, message_id: str, body: str, video_id: str, generation: int | None, policy: RetryPolicy
    ) -> DeadLetter | Unknown | None:
        def receive(connection: Connection) -> DeadLetter | Unknown | None:
            locked = lock(connection, video_id)
            if locked is None:
                return Unknown()
            record = locked.record
            entry = connection.execute(select(outbox.c.token).where(outbox.c.job_id == record.job.id)).first()
            verdict = judge_arrival(
                record.job,
                deleted=locked.deleted,
                generation=generation,
                waiting_in_outbox=entry is not None and entry.token is None,
                being_sent=entry is not None and entry.token is not None,
                now=locked.now,
                policy=policy,
            )
            effect = lifecycle.settle(record, verdict.settlement, locked.now) if verdict.settlement else None
            letter = of_arrival(
                effect.record if effect else record,
                verdict,
                message_id=message_id,
                body=body,
                attempt=last_attempt(connection, record.job),
                now=locked.now,
            )
            added = add_dead_letter(connection, letter)
            if added is None:
                return None
            if verdict.send_after:
                put_in_outbox(connection, record, verdict.send_after, locked.now)
            if effect:
                # The dead letter was added above, so `apply` must not add another one.
                apply(connection, locked, replace(effect, dead_letter=None))
            return replace(letter, id=added)

        return self.database.repeatable(receive)

    def dead_letters(
        self, wanted: DeadLetterFilter, *, after: DeadLetterPage | None = None, limit: int = 50
    ) -> Sequence[DeadLetter]:
        query = SHORTENED.where(*_conditions(wanted)).order_by(
            dead_letters.c.created_at.desc(), dead_letters.c.id.desc()
        )

        def page(last: Row[Any] | None) -> Select[Any]:
            return _from(query, DeadLetterPage(last.created_at, last.id) if last else after)

        return self.read_pages(page, dead_letter_of, limit=limit)

    def count_dead_letters(self, wanted: DeadLetterFilter, *, after: DeadLetterPage | None = None) -> int:
        counted = select(func.count()).select_from(dead_letters).where(*_conditions(wanted))
        with self.database.reading() as connection:
            count: int = connection.execute(_from(counted, after)).scalar_one()
        return count

    def dead_letter(self, dead_letter_id: int) -> DeadLetter | None:
        with self.database.reading() as connection:
            return _find(connection, dead_letter_id)

    def redrive_dead_letter(self, dead_letter_id: int, *, by: str, delay: timedelta = timedelta(0)) -> Record:
        with self.database.transaction() as connection:
            letter, locked = _lock_open(connection, dead_letter_id)
            if locked is None or locked.deleted:
                raise without_video(letter)
            return apply(connection, locked, lifecycle.retry(locked.record, locked.now, by=by, delay=delay))

    def discard_dead_letter(self, dead_letter_id: int, *, by: str, reason: str) -> DeadLetter:
        with self.database.transaction() as connection:
            letter, locked = _lock_open(connection, dead_letter_id)
            now = locked.now if locked else clock(connection)
            discarded = {"resolution": Resolution.DISCARDED, "resolved_at": now, "resolved_by": by, "reason": reason}
            updated = connection.execute(
                update(dead_letters).where(dead_letters.c.id == letter.id, OPEN).values(discarded)
            )
            if not updated.rowcount:
                # A dead letter without a video is not locked, so another process may just have discarded it.
                check_open(_existing(connection, letter.id))
            if locked and not locked.deleted:
                changed = after_discard(locked.record, locked.now)
                write_job(connection, locked.record.job, changed.job)
                feed.append_event(connection, changed, EventKind.STATUS, changed.job.error)
            return replace(letter, resolution=Resolution.DISCARDED, resolved_at=now, resolved_by=by, reason=reason)

    def open_dead_letters(self) -> Mapping[DeadLetterCause, int]:
        counted = select(dead_letters.c.cause, func.count().label("many")).where(OPEN).group_by(dead_letters.c.cause)
        with self.database.reading() as connection:
            rows = connection.execute(counted).all()
        return dict(self.readable(rows, _count))

    def unannounced_dead_letters(self, *, limit: int, quiet: timedelta = timedelta(0)) -> Sequence[DeadLetter]:
        # Leave out rows whose cause this version does not know. Otherwise, `limit` such rows would hide all others.
        is_known = dead_letters.c.cause.in_(list(DeadLetterCause))
        wanted = SHORTENED.where(OPEN, dead_letters.c.announced_at.is_(None), is_known)
        if quiet:
            announced_at = dead_letters.c.announced_at
            recent = select(dead_letters.c.cause).where(~passed(announced_at, quiet), passed(announced_at, -quiet))
            wanted = wanted.where(dead_letters.c.cause.not_in(recent))
        with self.database.reading() as connection:
            rows = connection.execute(wanted.order_by(dead_letters.c.created_at, dead_letters.c.id).limit(limit)).all()
        return list(self.readable(rows, dead_letter_of))

    def mark_announced(self, dead_letter_ids: Collection[int]) -> None:
        with self.database.transaction() as connection:
            connection.execute(
                update(dead_letters).where(dead_letters.c.id.in_(list(dead_letter_ids))).values(announced_at=now_plus())
            )


def _conditions(wanted: DeadLetterFilter) -> list[ColumnElement[bool]]:
    columns = dead_letters.c
    conditions: list[ColumnElement[bool]] = []
    if wanted.state != "all":
        conditions.append(OPEN if wanted.state == "open" else ~OPEN)
    if wanted.causes:
        conditions.append(columns.cause.in_(sorted(wanted.causes)))
    if wanted.codes:
        conditions.append(columns.code.in_(sorted(wanted.codes)))
    for column, value in (
        (columns.owner, wanted.owner),
        (columns.worker, wanted.worker),
        (columns.version, wanted.version),
    ):
        if value is not None:
            conditions.append(column == value)
    if wanted.since is not None:
        conditions.append(columns.created_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(columns.created_at < wanted.until)
    return conditions


def _from(query: Select[Any], after: DeadLetterPage | None) -> Select[Any]:
    if after is None:
        return query
    place = tuple_(literal(after.created_at, Time), literal(after.id))
    return query.where(tuple_(dead_letters.c.created_at, dead_letters.c.id) < place)


def _row(connection: Connection, query: Select[Any], dead_letter_id: int) -> Row[Any] | None:
    if dead_letter_id.bit_length() > MAX_ID_BITS:
        return None
    return connection.execute(query, {"dead_letter_id": dead_letter_id}).one_or_none()


def _find(connection: Connection, dead_letter_id: int) -> DeadLetter | None:
    row = _row(connection, _ONE, dead_letter_id)
    return None if row is None else dead_letter_of(row)


def _existing(connection: Connection, dead_letter_id: int) -> DeadLetter:
    letter = _find(connection, dead_letter_id)
    if letter is None:
        raise not_found(dead_letter_id)
    return letter


def _lock_open(connection: Connection, dead_letter_id: int) -> tuple[DeadLetter, Locked | None]:
    """Lock the video of an open dead letter. Return both. The video is None if the dead letter has no video.

    Raises:
        NotFound: `dead_letter_not_found`.
        Conflict: `dead_letter_resolved`.
    """
    row = _row(connection, _VIDEO_ID, dead_letter_id)
    locked = lock(connection, row.video_id) if row and row.video_id is not None else None
    # Read the dead letter only now: another process may have resolved it before the lock was taken.
    letter = _existing(connection, dead_letter_id)
    check_open(letter)
    return letter, locked


def _count(row: Row[Any]) -> tuple[DeadLetterCause, int]:
    with decoding("dead_letter_unreadable", "the cause of some dead letters"):
        return DeadLetterCause(row.cause), row.many
