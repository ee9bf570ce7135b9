"""Uploads, from their start to the status `uploaded`, and their Idempotency-Keys."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from anb_core.domain import lifecycle
from anb_core.domain.adoption import KnownSource
from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Conflict
from anb_core.domain.limits import (
    NO_LIMITS,
    PACE_WINDOW,
    UNFINISHED,
    Limits,
    Usage,
    find_excess,
    refusal,
    upload_of,
)
from anb_core.domain.model import (
    EventKind,
    Idempotency,
    NewVideo,
    Record,
    Source,
)
from anb_core.domain.status import Status
from anb_core.ports.store import (
    Replay,
)
from anb_core.testing.store.tables import KeyRow, Row, Tables


class InMemoryUploads(Tables):
    """Implements `anb_core.ports.store.Uploads`."""

    def check_limits(
        self, limits: Limits, *, owner: str, size: int | None = None, idempotency_key: str | None = None
    ) -> None:
        with self.transaction() as now:
            kept = self.keys.get((owner, idempotency_key)) if idempotency_key is not None else None
            if kept is None or kept.expires_at <= now:
                self._check_limits(limits, owner, upload_of(size), now)

    def begin_upload(
        self,
        new: NewVideo,
        *,
        lifetime: timedelta,
        idempotency: Idempotency | None = None,
        size: int | None = None,
        limits: Limits = NO_LIMITS,
    ) -> Record | Replay:
        with self.transaction() as now:
            key = (new.owner, idempotency.key) if idempotency else None
            kept = self.keys.get(key) if key else None
            if kept and idempotency and kept.expires_at > now and kept.video_id != new.id:
                other = self.rows[kept.video_id]
                held = _key_held_for(other, now, lifetime, idempotency)
                if held is None or held > timedelta(0):
                    return Replay(other.record, kept.fingerprint, held)
                self.abandon(other, now)
                kept = None
            row = self.find(new.id)
            if row is None:
                self._check_limits(limits, new.owner, upload_of(size), now)
                announced = upload_of(size).stored_bytes
                row = Row(lifecycle.new_record(new, now), upload_expires_at=now + lifetime, announced_bytes=announced)
                self.add(row)
                self.append_event(row.record, EventKind.STATUS, now)
            # This error is also raised for a deleted video, because its job does not have the status `uploading`.
            elif row.record.video.owner != new.owner or row.job.status is not Status.UPLOADING:
                raise Conflict("video_exists", f"There is a video {new.id} already; choose another id.")
            if key and idempotency and not (kept and kept.expires_at > now):
                self.keys[key] = KeyRow(new.id, now + idempotency.lifetime)
            return row.record

    def renew_upload(self, video_id: str, *, lifetime: timedelta) -> bool:
        with self.transaction() as now:
            row = self.rows.get(video_id)
            if row is None or row.job.status is not Status.UPLOADING:
                return False
            row.upload_expires_at = now + lifetime
            return True

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
        with self.transaction() as now:
            row = self.visible(video_id)
            effect = lifecycle.complete(row.record, source, now, title=title, edit=edit, process_after=process_after)
            if effect is None:
                return row.record
            for key in self.keys.values():
                if key.video_id == video_id:
                    key.fingerprint = fingerprint
            return self.apply(row, effect, now)

    def abandon_upload(self, video_id: str) -> None:
        with self.transaction() as now:
            self.abandon(self.find(video_id), now)

    def submit_existing(self, new: NewVideo, source: Source) -> tuple[Record, bool]:
        with self.transaction() as now:
            if new.id in self.rows:
                return self.visible(new.id).record, False
            row = Row(lifecycle.new_record(new, now, source))
            self.add(row)
            self.put_in_outbox(row.job, row.job.not_before or now, now)
            self.append_event(row.record, EventKind.STATUS, now)
            return row.record, True

    def known_sources(self, keys: Collection[str]) -> Sequence[KnownSource]:
        with self.transaction():
            sources = [(row.record.video, row.deleted_at) for row in self.rows.values()]
            known = [
                KnownSource(
                    video.source_key,
                    video.id,
                    None if video.owned or not video.source else video.source.size,
                    deleted=deleted_at is not None,
                )
                for video, deleted_at in sources
            ]
            known += [KnownSource(one.scheduled.key, one.video_id, None, deleted=True) for one in self.deletions]
            return [one for one in known if one.key in keys]

    def _check_limits(self, limits: Limits, owner: str, more: Usage, now: datetime) -> None:
        usage = [(row.record.video.owner, _usage_of(row)) for row in self.rows.values()]
        of_owner = sum((one for name, one in usage if name == owner), more)
        excess = find_excess(limits, owner=of_owner, in_all=sum((one for _, one in usage), more))
        if excess:
            attempts = [attempt for row in self.rows.values() for attempt in row.attempts]
            raise refusal(excess, sum(attempt.started_at > now - PACE_WINDOW for attempt in attempts))


def _usage_of(row: Row) -> Usage:
    video, job = row.record.video, row.job
    stored = video.source.size if video.owned and video.source else 0
    if job.status is Status.UPLOADING:
        stored += row.announced_bytes
    return Usage(int(job.status in UNFINISHED), stored + (job.result.size if job.result else 0))


def _key_held_for(row: Row, now: datetime, lifetime: timedelta, idempotency: Idempotency) -> timedelta | None:
    """Return the time after which another upload may take the key, if this upload is not renewed until then.

    None if no other upload can take the key before this upload ends.
    """
    if idempotency.silence is None or row.upload_expires_at is None:
        return None
    return row.upload_expires_at - lifetime + idempotency.silence - now
