"""What is shown to people."""

from collections.abc import Collection, Sequence

from sqlalchemy import bindparam, func, literal, select, tuple_

from anb_core.adapters.database.engine import Repository
from anb_core.adapters.database.rows import RECORDS, attempt_of, record_of
from anb_core.adapters.database.tables import Time, attempts, jobs, videos
from anb_core.domain.model import Attempt, Record
from anb_core.domain.status import Status
from anb_core.ports.store import Page

# Built once: the operator asks both for every change of every video.
_RECORD = RECORDS.where(videos.c.id == bindparam("video_id"), videos.c.deleted_at.is_(None))
_ATTEMPTS = select(attempts).where(attempts.c.job_id == bindparam("job_id")).order_by(attempts.c.fence)


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

    def history(self, video_id: str) -> tuple[Record | None, Sequence[Attempt]]:
        with self.database.reading() as connection:
            row = connection.execute(_RECORD, {"video_id": video_id}).one_or_none()
            if row is None:
                return None, []
            record = record_of(row)
            if not record.job.attempts:
                return record, []
            return record, [attempt_of(row) for row in connection.execute(_ATTEMPTS, {"job_id": record.job.id})]

    def count_by_status(self) -> dict[Status, int]:
        counted = (
            select(jobs.c.status, func.count())
            .join(videos, videos.c.id == jobs.c.video_id)
            .where(videos.c.deleted_at.is_(None))
            .group_by(jobs.c.status)
        )
        with self.database.reading() as connection:
            return {Status(status): count for status, count in connection.execute(counted)}
