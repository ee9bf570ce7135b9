"""What is shown to people."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import bindparam, func, literal, select, tuple_

from anb_core.adapters.database.engine import Repository
from anb_core.adapters.database.rows import RECORDS, attempt_of, record_of
from anb_core.adapters.database.tables import Time, attempts, jobs, videos
from anb_core.domain.model import Attempt, Record
from anb_core.domain.status import Status
from anb_core.ports.store import History, Page

# Built once: they are asked for every change of every video.
_VISIBLE = RECORDS.where(videos.c.deleted_at.is_(None))
_RECORD = _VISIBLE.where(videos.c.id == bindparam("video_id"))
_RECORDS = _VISIBLE.where(videos.c.id.in_(bindparam("video_ids", expanding=True)))
_ATTEMPTS = (
    select(attempts).where(attempts.c.job_id.in_(bindparam("job_ids", expanding=True))).order_by(attempts.c.fence)
)


class ReadingRepository(Repository):
    """Implements `anb_core.ports.store.Reading`."""

    def get(self, video_id: str) -> Record | None:
        with self.database.reading() as connection:
            row = connection.execute(_RECORD, {"video_id": video_id}).one_or_none()
            return None if row is None else record_of(row)

    def listing(
        self, *, owner: str | None, statuses: Collection[Status] = (), after: Page | None = None, limit: int = 50
    ) -> Sequence[Record]:
        wanted = (
            RECORDS.where(videos.c.deleted_at.is_(None))
            .order_by(videos.c.created_at.desc(), videos.c.id.desc())
            .limit(limit)
        )
        if owner is not None:
            wanted = wanted.where(videos.c.owner == owner)
        if statuses:
            wanted = wanted.where(jobs.c.status.in_(sorted(statuses)))
        if after is not None:
            place = tuple_(literal(after.created_at, Time), literal(after.video_id))
            wanted = wanted.where(tuple_(videos.c.created_at, videos.c.id) < place)
        with self.database.reading() as connection:
            return [record_of(row) for row in connection.execute(wanted)]

    def history(self, video_id: str) -> History:
        return self.histories([video_id])[video_id]

    def histories(self, video_ids: Collection[str]) -> Mapping[str, History]:
        made: defaultdict[str, list[Attempt]] = defaultdict(list)
        with self.database.reading() as connection:
            rows = connection.execute(_RECORDS, {"video_ids": list(video_ids)})
            records = {record.video.id: record for record in map(record_of, rows)}
            if tried := [record.job.id for record in records.values() if record.job.attempts]:
                for row in connection.execute(_ATTEMPTS, {"job_ids": tried}):
                    made[row.job_id].append(attempt_of(row))
        return {
            video_id: (record, made[record.job.id]) if (record := records.get(video_id)) else (None, [])
            for video_id in video_ids
        }

    def count_by_status(self) -> dict[Status, int]:
        counted = (
            select(jobs.c.status, func.count())
            .join(videos, videos.c.id == jobs.c.video_id)
            .where(videos.c.deleted_at.is_(None))
            .group_by(jobs.c.status)
        )
        with self.database.reading() as connection:
            return {Status(status): count for status, count in connection.execute(counted)}
