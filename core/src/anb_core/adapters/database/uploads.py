"""Uploads, from their start to the status `uploaded`, and their Idempotency-Keys."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, case, delete, exists, null, select, update

from anb_core.adapters.database import feed
from anb_core.adapters.database.engine import Repository, clock, insert, now_plus, passed
from anb_core.adapters.database.rows import (
    RECORDS,
    Locked,
    add_record,
    apply,
    lock,
    lock_visible,
    put_in_outbox,
    record_of,
    schedule_deletions,
)
from anb_core.adapters.database.tables import idempotency_keys, jobs, object_deletions, videos
from anb_core.adapters.database.usage import check_limits, lock_usage, reserve
from anb_core.domain import lifecycle
from anb_core.domain.adoption import KnownSource
from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Conflict
from anb_core.domain.limits import NO_LIMITS, Limits, Usage, upload_of
from anb_core.domain.model import EventKind, Idempotency, NewVideo, Record, Source
from anb_core.domain.status import Status
from anb_core.ports.store import Replay


class UploadsRepository(Repository):
    """Implements `anb_core.ports.store.Uploads`."""

    def check_limits(
        self, limits: Limits, *, owner: str, size: int | None = None, idempotency_key: str | None = None
    ) -> None:
        key = exists().where(
            idempotency_keys.c.owner == owner,
            idempotency_keys.c.key == idempotency_key,
            ~passed(idempotency_keys.c.expires_at),
        )
        with self.database.reading() as connection:
            if idempotency_key is None or not connection.scalar(select(key)):
                check_limits(connection, limits, owner, upload_of(size))

    def begin_upload(
        self,
        new: NewVideo,
        *,
        lifetime: timedelta,
        idempotency: Idempotency | None = None,
        size: int | None = None,
        limits: Limits = NO_LIMITS,
    ) -> Record | Replay:
        def begin(connection: Connection) -> Record | Replay | None:
            if idempotency and not _take_key(connection, new, idempotency):
                replay = _find_key(connection, new.owner, idempotency.key)
                if replay.record.video.id == new.id:
                    return _begun_before(connection, new)
                silent, held = _silence_of(connection, replay, idempotency, lifetime)
                if silent is None:
                    return replace(replay, held=held)
                # Begin the new upload in another transaction, because `abandon` adds an event to the feed.
                # An event must be the last statement of its transaction.
                abandon(connection, silent)
                return None
            now = clock(connection)
            record = lifecycle.new_record(new, now)
            if not add_record(connection, record, upload_expires_at=now + lifetime):
                return _begun_before(connection, new)
            reserve(connection, new.id, new.owner, size)
            if limits != NO_LIMITS:
                lock_usage(connection)
                check_limits(connection, limits, new.owner, Usage())
            feed.append_event(connection, record, EventKind.STATUS)
            return record

        while (begun := self.database.repeatable(begin)) is None:
            pass
        return begun

    def renew_upload(self, video_id: str, *, lifetime: timedelta) -> bool:
        with self.database.transaction() as connection:
            renewed = connection.execute(
                update(jobs)
                .where(jobs.c.video_id == video_id, jobs.c.status == Status.UPLOADING)
                .values(upload_expires_at=now_plus(lifetime))
            )
            return renewed.rowcount == 1

    def complete_upload(
        self,
        video_id: str,
        source: Source,
        *,
        title: str | None = None,
        edit: EditSpec | None = None,
        process_after: datetime | None = None,
        fingerprint: str | None = None,
    ) -> Record:
        def complete(connection: Connection) -> Record:
            locked = lock_visible(connection, video_id)
            effect = lifecycle.complete(
                locked.record, source, locked.now, title=title, edit=edit, process_after=process_after
            )
            if effect is None:
                return locked.record
            connection.execute(
                update(idempotency_keys).where(idempotency_keys.c.video_id == video_id).values(fingerprint=fingerprint)
            )
            return apply(connection, locked, effect)

        return self.database.repeatable(complete)

    def abandon_upload(self, video_id: str) -> None:
        with self.database.transaction() as connection:
            locked = lock(connection, video_id)
            if locked and locked.record.job.status is Status.UPLOADING:
                abandon(connection, locked)

    def submit_existing(self, new: NewVideo, source: Source) -> tuple[Record, bool]:
        with self.database.transaction() as connection:
            now = clock(connection)
            record = lifecycle.new_record(new, now, source)
            if not add_record(connection, record):
                return lock_visible(connection, new.id).record, False
            put_in_outbox(connection, record, record.job.not_before or now, now)
            feed.append_event(connection, record, EventKind.STATUS)
            return record, True

    def known_sources(self, keys: Collection[str]) -> Sequence[KnownSource]:
        size = case((videos.c.owned, null()), else_=videos.c.source_size)
        sources = select(
            videos.c.source_key.label("key"), videos.c.id.label("video_id"), size.label("size"), videos.c.deleted_at
        ).where(videos.c.source_key.in_(keys))
        doomed = select(object_deletions.c.key, object_deletions.c.video_id).where(object_deletions.c.key.in_(keys))
        with self.database.reading() as connection:
            known = [
                KnownSource(row.key, row.video_id, row.size, deleted=row.deleted_at is not None)
                for row in connection.execute(sources)
            ]
            return known + [KnownSource(*row, None, deleted=True) for row in connection.execute(doomed)]


def abandon(connection: Connection, locked: Locked) -> None:
    """Delete a locked upload, including its job and its Idempotency-Key. Schedule the deletion of its object."""
    record = locked.record
    connection.execute(delete(videos).where(videos.c.id == record.video.id))
    schedule_deletions(connection, record.video.id, lifecycle.abandoned(record.video, locked.now))
    deleted = replace(record, job=replace(record.job, version=record.job.version + 1))
    feed.append_event(connection, deleted, EventKind.DELETED)


def _take_key(connection: Connection, new: NewVideo, idempotency: Idempotency) -> bool:
    fields = {
        "video_id": new.id,
        "fingerprint": None,
        "expires_at": now_plus(idempotency.lifetime),
    }
    taken = connection.scalar(
        insert(connection, idempotency_keys)
        .values(owner=new.owner, key=idempotency.key, **fields)
        .on_conflict_do_update(
            index_elements=[idempotency_keys.c.owner, idempotency_keys.c.key],
            set_=fields,
            where=idempotency_keys.c.expires_at <= now_plus(),
        )
        .returning(idempotency_keys.c.video_id)
    )
    return taken is not None


def _find_key(connection: Connection, owner: str, key: str) -> Replay:
    # The key's row exists, because `_take_key` has just locked it.
    row = connection.execute(
        RECORDS.add_columns(idempotency_keys.c.fingerprint.label("fingerprint"))
        .join(idempotency_keys, idempotency_keys.c.video_id == videos.c.id)
        .where(idempotency_keys.c.owner == owner, idempotency_keys.c.key == key)
    ).one()
    return Replay(record_of(row), row.fingerprint)


def _silence_of(
    connection: Connection, replay: Replay, idempotency: Idempotency, lifetime: timedelta
) -> tuple[Locked | None, timedelta | None]:
    """Check whether another upload may take the Idempotency-Key of an upload that is not renewed any more.

    Returns (upload, None) if the key may be taken now: the upload was not renewed for `idempotency.silence`.
    In this case the upload is locked.
    Returns (None, duration) if the key may be taken after this duration, unless the upload is renewed.
    Returns (None, None) if the key may never be taken: `idempotency.silence` is None, or the upload is complete.
    """
    if idempotency.silence is None or replay.record.job.status is not Status.UPLOADING:
        return None, None
    # Do not wait for the lock. Waiting could cause a deadlock: `complete_upload` locks the upload before the key.
    # If another transaction has locked the upload, the upload is in use and keeps its key.
    locked = lock(connection, replay.record.video.id, wait=False)
    if locked is None or locked.upload_expires_at is None:
        return None, idempotency.silence
    left = locked.upload_expires_at - lifetime + idempotency.silence - locked.now
    return (None, left) if left > timedelta(0) else (locked, None)


def _begun_before(connection: Connection, new: NewVideo) -> Record:
    locked = lock(connection, new.id)
    if locked:
        record = locked.record
        # A deleted video has not the status `uploading`, because its job is cancelled.
        if record.video.owner == new.owner and record.job.status is Status.UPLOADING:
            return record
    raise Conflict("video_exists", f"There is a video {new.id} already; choose another id.")
