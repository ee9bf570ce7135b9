"""Queries that read videos: single videos, lists, histories and counts."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, Select, bindparam, case, exists, func, literal, select, tuple_

from anb_core.adapters.database.dead_letter_rows import SHORTENED, dead_letter_of
from anb_core.adapters.database.engine import Repository, clock, decoding, now_plus
from anb_core.adapters.database.outbox import count_ahead
from anb_core.adapters.database.rows import RECORDS, attempt_of, decoding_video, record_of
from anb_core.adapters.database.tables import Time, attempts, dead_letters, jobs, outbox, videos, waiting
from anb_core.domain.dead_letters import DeadLetter
from anb_core.domain.explanation import Surroundings, Unsent
from anb_core.domain.model import Attempt, Job, Record
from anb_core.domain.status import Status
from anb_core.ports.store import History, Page, QueueJobs

# These queries run for every change of every video, so they are built only once.
_VISIBLE = RECORDS.where(videos.c.deleted_at.is_(None))
_RECORD = _VISIBLE.where(videos.c.id == bindparam("video_id"))
_RECORDS = _VISIBLE.where(videos.c.id.in_(bindparam("video_ids", expanding=True)))
_ATTEMPTS = (
    select(attempts).where(attempts.c.job_id.in_(bindparam("job_ids", expanding=True))).order_by(attempts.c.fence)
)
_DEAD_LETTERS = SHORTENED.where(dead_letters.c.video_id.in_(bindparam("video_ids", expanding=True))).order_by(
    dead_letters.c.created_at, dead_letters.c.id
)
_MESSAGE = (
    select(jobs.c.enqueued_at, outbox.c.created_at, outbox.c.send_after, outbox.c.tries)
    .join_from(jobs, outbox, outbox.c.job_id == jobs.c.id, isouter=True)
    .where(jobs.c.video_id == bindparam("video_id"))
)
_OTHERS = select(
    now_plus().label("now"),
    select(func.count())
    .select_from(jobs)
    .where(
        waiting(),
        jobs.c.enqueued_at < bindparam("enqueued_at", type_=Time),
        ~exists().where(outbox.c.job_id == jobs.c.id),
    )
    .scalar_subquery()
    .label("ahead"),
    select(func.count())
    .select_from(jobs)
    .where(jobs.c.lease_expires_at > select(now_plus()).scalar_subquery())
    .scalar_subquery()
    .label("busy"),
    select(func.max(attempts.c.started_at)).scalar_subquery().label("last_claim"),
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
        wanted = RECORDS.where(videos.c.deleted_at.is_(None)).order_by(videos.c.created_at.desc(), videos.c.id.desc())
        if owner is not None:
            wanted = wanted.where(videos.c.owner == owner)
        if statuses:
            wanted = wanted.where(jobs.c.status.in_(sorted(statuses)))

        def page(last: Row[Any] | None) -> Select[Any]:
            return _from(wanted, Page(last.videos_created_at, last.videos_id) if last else after)

        return self.read_pages(page, record_of, limit=limit)

    def history(self, video_id: str) -> History:
        found = self.histories([video_id]).get(video_id)
        if found is None:
            # The video is unreadable. `histories` has already logged the reason.
            with decoding_video(video_id):
                raise LookupError(video_id)
        return found

    def histories(self, video_ids: Collection[str]) -> Mapping[str, History]:
        made: defaultdict[str, list[Attempt]] = defaultdict(list)
        with self.database.reading() as connection:
            rows = connection.execute(_RECORDS, {"video_ids": list(video_ids)}).all()
            records = {record.video.id: record for record in self.readable(rows, record_of)}
            unreadable = {row.videos_id for row in rows} - records.keys()
            if attempted := {record.job.id: record for record in records.values() if record.job.attempts}:
                for row in connection.execute(_ATTEMPTS, {"job_ids": list(attempted)}):
                    if attempt := next(self.readable([row], attempt_of), None):
                        made[row.job_id].append(attempt)
                    else:
                        unreadable.add(attempted[row.job_id].video.id)
            ended = {one.video.id for one in records.values() if one.job.status is Status.DEAD_LETTERED}
            found = connection.execute(_DEAD_LETTERS, {"video_ids": list(ended)}).all() if ended else []
            letters = list(self.readable(found, dead_letter_of))
        return {
            video_id: History(record, made[record.job.id], _ended_by(record.job, letters))
            if (record := records.get(video_id))
            else History()
            for video_id in video_ids
            if video_id not in unreadable
        }

    def surroundings(self, video_id: str) -> Surroundings:
        with self.database.reading() as connection:
            message = connection.execute(_MESSAGE, {"video_id": video_id}).one_or_none()
            sent = {"enqueued_at": message.enqueued_at if message else None}
            others = connection.execute(_OTHERS, sent).one()
            unsent = None
            if message and message.send_after is not None:
                ahead = count_ahead(connection, video_id) if message.send_after <= others.now else 0
                unsent = Unsent(message.created_at, message.send_after, message.tries, ahead)
        return Surroundings(
            now=others.now,
            unsent=unsent,
            ahead=others.ahead,
            busy=others.busy,
            last_claim=others.last_claim,
        )

    def count_by_status(self) -> dict[Status, int]:
        counted = (
            select(jobs.c.status, func.count().label("many"))
            .join(videos, videos.c.id == jobs.c.video_id)
            .where(videos.c.deleted_at.is_(None))
            .group_by(jobs.c.status)
        )
        with self.database.reading() as connection:
            rows = connection.execute(counted).all()
        return dict(self.readable(rows, _count))

    def longest_wait(self) -> timedelta:
        since = case((jobs.c.not_before > jobs.c.updated_at, jobs.c.not_before), else_=jobs.c.updated_at)
        with self.database.reading() as connection:
            first = connection.scalar(select(func.min(since, type_=Time)).where(waiting()))
            return max(clock(connection) - first, timedelta(0)) if first else timedelta(0)

    def count_by_queue(self) -> Mapping[str | None, QueueJobs]:
        counted = (
            select(
                jobs.c.enqueued_to,
                func.count().label("all"),
                func.count(jobs.c.lease_owner).label("running"),
                func.min(jobs.c.enqueued_at).label("oldest"),
            )
            .where(jobs.c.status.in_([Status.UPLOADED, Status.PROCESSING]))
            .group_by(jobs.c.enqueued_to)
        )
        with self.database.reading() as connection:
            now = clock(connection)
            return {
                row.enqueued_to: QueueJobs(row.all - row.running, row.running, row.oldest and now - row.oldest)
                for row in connection.execute(counted)
            }


def _ended_by(job: Job, letters: Iterable[DeadLetter]) -> DeadLetter | None:
    """Return the newest dead letter of the job's current generation that says why the job ended, or None."""
    current = [one for one in letters if one.video_id == job.video_id and one.generation == job.generation]
    return next((one for one in reversed(current) if one.about_the_job), None)


def _from(wanted: Select[Any], after: Page | None) -> Select[Any]:
    if after is None:
        return wanted
    place = tuple_(literal(after.created_at, Time), literal(after.video_id))
    return wanted.where(tuple_(videos.c.created_at, videos.c.id) < place)


def _count(row: Row[Any]) -> tuple[Status, int]:
    with decoding("status_unreadable", "the status of some videos"):
        return Status(row.status), row.many
