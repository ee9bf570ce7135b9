"""The store's part of a reconciliation with the bucket, after the database was restored to an earlier state."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, Select, select

from anb_core.adapters.database.engine import Repository, clock
from anb_core.adapters.database.rows import RECORDS, apply, lock_visible, record_of, result_keys, schedule_deletions
from anb_core.adapters.database.tables import EPOCH, attempts, jobs, object_deletions, videos
from anb_core.domain import lifecycle, restoring
from anb_core.domain.model import Record, Result
from anb_core.domain.reconciliation import Known

_NEVER = datetime.max.replace(tzinfo=UTC)


class RestoringRepository(Repository):
    """Implements `anb_core.ports.store.Restoring`."""

    def known_videos(self, video_ids: Collection[str]) -> Mapping[str, Known]:
        made, doomed = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
        of_attempts = (
            select(jobs.c.video_id, attempts.c.result_key)
            .join(attempts, attempts.c.job_id == jobs.c.id)
            .where(jobs.c.video_id.in_(video_ids))
        )
        of_deletions = select(object_deletions.c.video_id, object_deletions.c.key).where(
            object_deletions.c.video_id.in_(video_ids)
        )
        with self.database.reading() as connection:
            now = clock(connection)
            rows = {row.videos_id: row for row in connection.execute(RECORDS.where(videos.c.id.in_(video_ids)))}
            for found, query in ((made, of_attempts), (doomed, of_deletions)):
                for video_id, key in connection.execute(query):
                    found[video_id].add(key)
        records = {record.video.id: record for record in self.readable(rows.values(), record_of)}
        known = {}
        for video_id in records.keys() | (set(video_ids) - rows.keys()):
            row = rows.get(video_id)
            known[video_id] = Known(
                record=records.get(video_id),
                deleted=row is not None and row.videos_deleted_at is not None,
                upload_ended=row is not None and (row.jobs_upload_expires_at or _NEVER) <= now,
                leased=row is not None and (row.jobs_lease_expires_at or EPOCH) > now,
                attempts=frozenset(made[video_id]),
                doomed=frozenset(doomed[video_id]),
            )
        return known

    def videos_after(self, video_id: str, *, limit: int) -> Sequence[Record]:
        visible = RECORDS.where(videos.c.deleted_at.is_(None)).order_by(videos.c.id)

        def page(last: Row[Any] | None) -> Select[Any]:
            return visible.where(videos.c.id > (last.videos_id if last else video_id))

        return self.read_pages(page, record_of, limit=limit)

    def restore_result(self, video_id: str, result: Result, *, worker: str, by: str) -> Record:
        with self.database.transaction() as connection:
            locked = lock_visible(connection, video_id)
            keys = result_keys(connection, locked.record.job.id)
            effect = restoring.restore_result(
                locked.record, result, locked.now, worker=worker, by=by, attempt_keys=keys
            )
            return apply(connection, locked, effect)

    def render_again(self, video_id: str) -> Record:
        with self.database.transaction() as connection:
            locked = lock_visible(connection, video_id)
            return apply(connection, locked, restoring.repeat(locked.record, locked.now))

    def discard_results(self, video_id: str, keys: Collection[str]) -> None:
        with self.database.transaction() as connection:
            schedule_deletions(connection, video_id, lifecycle.losing(keys, clock(connection)))
