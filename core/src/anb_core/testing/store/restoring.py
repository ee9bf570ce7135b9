"""The in-memory store's part of a reconciliation with the bucket."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from anb_core.domain import lifecycle, restoring
from anb_core.domain.model import Record, Result
from anb_core.domain.reconciliation import Known
from anb_core.testing.store.tables import Tables


class InMemoryRestoring(Tables):
    """Implements `anb_core.ports.store.Restoring`."""

    def known_videos(self, video_ids: Collection[str]) -> Mapping[str, Known]:
        with self.transaction() as now:
            known = {}
            for video_id in set(video_ids) - self.unreadable:
                row = self.rows.get(video_id)
                known[video_id] = Known(
                    record=row.record if row else None,
                    deleted=row is not None and row.deleted_at is not None,
                    upload_ended=row is not None and row.upload_expires_at is not None and row.upload_expires_at <= now,
                    leased=row is not None and _is_later(row.job.lease_expires_at, now),
                    attempts=frozenset(attempt.result_key for attempt in row.attempts) if row else frozenset(),
                    doomed=frozenset(one.scheduled.key for one in self.deletions if one.video_id == video_id),
                )
            return known

    def videos_after(self, video_id: str, *, limit: int) -> Sequence[Record]:
        with self.transaction():
            later = [row.record for row in self.readable() if not row.deleted_at and row.job.video_id > video_id]
            return sorted(later, key=lambda record: record.video.id)[:limit]

    def restore_result(self, video_id: str, result: Result, *, worker: str, by: str) -> Record:
        with self.transaction() as now:
            row = self.visible(video_id)
            keys = [attempt.result_key for attempt in row.attempts]
            effect = restoring.restore_result(row.record, result, now, worker=worker, by=by, attempt_keys=keys)
            return self.apply(row, effect, now)

    def render_again(self, video_id: str) -> Record:
        with self.transaction() as now:
            row = self.visible(video_id)
            return self.apply(row, restoring.repeat(row.record, now), now)

    def discard_results(self, video_id: str, keys: Collection[str]) -> None:
        with self.transaction() as now:
            self.schedule_deletions(video_id, lifecycle.losing(keys, now))


def _is_later(time: datetime | None, now: datetime) -> bool:
    return time is not None and time > now
