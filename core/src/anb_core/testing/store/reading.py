"""Read access to videos: single videos, lists, histories and counts."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from anb_core.domain.dead_letters import DeadLetter
from anb_core.domain.explanation import Surroundings, Unsent
from anb_core.domain.fairness import sent_earlier
from anb_core.domain.model import (
    Job,
    Record,
)
from anb_core.domain.status import Status
from anb_core.ports.store import (
    History,
    Page,
    QueueJobs,
)
from anb_core.testing.store.dead_letters import shortened
from anb_core.testing.store.tables import Row, Tables


class InMemoryReading(Tables):
    """Implements `anb_core.ports.store.Reading`."""

    def get(self, video_id: str) -> Record | None:
        with self.transaction():
            row = self.find(video_id)
            return row.record if row and not row.deleted_at else None

    def listing(
        self, *, owner: str | None, statuses: Collection[Status] = (), after: Page | None = None, limit: int = 50
    ) -> Sequence[Record]:
        with self.transaction():
            found = [
                row.record
                for row in self.readable()
                if not row.deleted_at
                and (owner is None or row.record.video.owner == owner)
                and (not statuses or row.job.status in statuses)
                and (after is None or _place(row.record) < (after.created_at, after.video_id))
            ]
            return sorted(found, key=_place, reverse=True)[:limit]

    def history(self, video_id: str) -> History:
        with self.transaction():
            self.find(video_id)
            return self.histories([video_id])[video_id]

    def histories(self, video_ids: Collection[str]) -> Mapping[str, History]:
        with self.transaction():
            return {
                video_id: History(row.record, list(row.attempts), self._ended_by(row))
                if (row := self.rows.get(video_id)) and not row.deleted_at
                else History()
                for video_id in video_ids
                if video_id not in self.unreadable
            }

    def surroundings(self, video_id: str) -> Surroundings:
        with self.transaction() as now:
            row, message = self.rows.get(video_id), self.outbox.get(video_id)
            sent = row and row.job.enqueued_at
            return Surroundings(
                now=now,
                unsent=Unsent(message.created_at, message.send_after, message.tries, self._ahead(video_id, now))
                if message
                else None,
                ahead=sum(
                    one.job.status in {Status.UPLOADED, Status.PROCESSING}
                    and one.job.lease_owner is None
                    and one.job.video_id not in self.outbox
                    and bool(sent and one.job.enqueued_at and one.job.enqueued_at < sent)
                    for one in self.rows.values()
                ),
                busy=sum(
                    one.job.lease_expires_at is not None and one.job.lease_expires_at > now
                    for one in self.rows.values()
                ),
                last_claim=max(
                    (attempt.started_at for one in self.rows.values() for attempt in one.attempts), default=None
                ),
            )

    def count_by_status(self) -> dict[Status, int]:
        with self.transaction():
            counts: dict[Status, int] = {}
            for row in self.rows.values():
                if not row.deleted_at:
                    counts[row.job.status] = counts.get(row.job.status, 0) + 1
            return counts

    def longest_wait(self) -> timedelta:
        with self.transaction() as now:
            since = [
                max(row.job.updated_at, row.job.not_before or row.job.updated_at)
                for row in self.rows.values()
                if row.job.status in {Status.UPLOADED, Status.PROCESSING} and row.job.lease_owner is None
            ]
            return max(now - min(since, default=now), timedelta(0))

    def count_by_queue(self) -> Mapping[str | None, QueueJobs]:
        with self.transaction() as now:
            unfinished = defaultdict[str | None, list[Job]](list)
            for row in self.rows.values():
                if row.job.status in {Status.UPLOADED, Status.PROCESSING}:
                    unfinished[row.job.enqueued_to].append(row.job)
            return {
                name: QueueJobs(
                    waiting=sum(job.lease_owner is None for job in jobs),
                    running=sum(job.lease_owner is not None for job in jobs),
                    oldest=max((now - job.enqueued_at for job in jobs if job.enqueued_at), default=None),
                )
                for name, jobs in unfinished.items()
            }

    def _ahead(self, video_id: str, now: datetime) -> int:
        due = sorted(
            (entry.send_after, entry.id, self.rows[other].record.video.owner, other)
            for other, entry in self.outbox.items()
            if entry.send_after <= now
        )
        found = [number for number, (*_, other) in enumerate(due) if other == video_id]
        if not found:
            return 0
        owners = [owner for _, _, owner, _ in due]
        owner = owners[found[0]]
        flying = Counter(row.record.video.owner for row in self.in_flight(now))
        return sent_earlier(owner, owners[: found[0]].count(owner), Counter(owners), flying)

    def _ended_by(self, row: Row) -> DeadLetter | None:
        if row.job.status is not Status.DEAD_LETTERED:
            return None
        place = (row.job.video_id, row.job.generation)
        letters = [one for one in self.letters if (one.video_id, one.generation) == place and one.about_the_job]
        return shortened(letters[-1]) if letters else None


def _place(record: Record) -> tuple[datetime, str]:
    return record.video.created_at, record.video.id
