"""Rules about the steps of processes, which can't be seen in the rows.

- `lease`: no render outlives its lease, and no attempt is lost before the end of its lease, whatever the clocks say.
- `gate`: a worker whose call of the database or the bucket failed receives no message before a call has succeeded.
- `sweep`: only one process sweeps at a time.
- `report`: a worker reports of an attempt what the rows say.
- `queue`: a stated time after the last fault, the queues are empty.
- `upload`: an upload that is sent again makes no second video. An upload that nobody ends leaves nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from anb_core.domain.keys import UPLOADS
from anb_core.domain.model import Attempt, Ending, Lease
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.store import InMemoryStore
from anb_core.testing.store.tables import Row
from anb_core.usecases.report import Outcome, Report
from anb_operator.videojob import VideoJob
from tests.simulation.properties import Properties
from tests.simulation.queues import Queue
from tests.simulation.scheduler import Process, Scheduler, Thread

GRACE_SECONDS = 1.5
"""A render may outlive its lease by one of its own steps."""

ENDINGS: Mapping[Outcome, Ending] = {
    Outcome.PROCESSED: Ending.PROCESSED,
    Outcome.REJECTED: Ending.REJECTED,
    Outcome.FAILED: Ending.FAILED,
    Outcome.DEAD_LETTERED: Ending.FAILED,
    Outcome.HANDED_ON: Ending.INTERRUPTED,
}
"""What the rows say about an attempt, for each outcome that a worker may report."""

NEAR_THE_END = "lease: a render came near the end of its lease"
AFTER_AN_OUTAGE = "gate: a call succeeded after an outage"
SWEPT_BY_ANOTHER = "sweep: a process found that another one sweeps"
NOT_ENDED_BY_US = "report: an attempt ended before its worker could end it"
ABANDONED = "upload: an upload was abandoned"

LOCKED = "a call waited too long for a locked row"
LOST = "lease: an attempt was lost after the end of its lease"
MOVES = (
    "the programs moved from a Celery broker to both brokers",
    "the programs moved back to the Celery broker",
    "the programs moved to both brokers again",
)
LATE_MESSAGE = "a worker dropped a message of a job whose last message went to another broker"
MIRRORED = "L6: VideoJobs are compared with the rows"
WATCH_DEAD = "L6: the watch of VideoJobs was dead"

NAMES = (
    NEAR_THE_END,
    LOST,
    AFTER_AN_OUTAGE,
    SWEPT_BY_ANOTHER,
    NOT_ENDED_BY_US,
    ABANDONED,
    LOCKED,
    *MOVES,
    LATE_MESSAGE,
    MIRRORED,
    WATCH_DEAD,
)
"""The names of the conditions of these rules."""


@dataclass(eq=False, slots=True)
class Steps:
    """Checks the rules about steps in one run. Most methods return whether their rule holds."""

    scheduler: Scheduler
    properties: Properties
    _leases: dict[str, tuple[str, float]] = field(default_factory=dict)
    """For each attempt that has a lease the id of its video, and the time until which it certainly has the lease."""
    _shown: dict[str, int] = field(default_factory=dict)
    """For each VideoJob, the number of attempts that it showed last."""
    _sweeps: dict[Process, datetime] = field(default_factory=dict)
    """The processes that sweep, and the time of the database at which their locks expire."""

    def rendering(self, process: Process) -> bool:
        """Check that the attempt of this process, which is still rendering, can have its lease."""
        now, until = self.scheduler.now, process.lease_until
        if now > until - 1.0:
            self.properties.seen[NEAR_THE_END] = 1
        if now <= max(until, process.frozen_until) + GRACE_SECONDS:
            return True
        return self._broken("lease", f"{process.name} renders at {now:.1f} s, but its lease ended at {until:.1f} s.")

    def leased(self, lease: Lease, until: float) -> None:
        """Note that an attempt certainly has its lease until this time."""
        self._leases[lease.attempt_id] = (lease.video_id, until)

    def lost(self, store: InMemoryStore) -> None:
        """Check that no attempt was lost before the end of its lease."""
        for attempt_id, (video_id, until) in [*self._leases.items()]:
            row = store.rows.get(video_id)
            attempt = next((one for one in row.attempts if one.id == attempt_id), None) if row else None
            if attempt is None or attempt.ended_at is None:
                continue
            del self._leases[attempt_id]
            if attempt.ending is not Ending.LOST:
                continue
            self.properties.seen[LOST] = 1
            if self.scheduler.now < until:
                self._broken("lease", f"{attempt_id} was lost at {self.scheduler.now} s, before the end at {until} s.")

    def answered(self, thread: Thread, part: str) -> None:
        """Note that a call succeeded."""
        if part in thread.missing:
            thread.missing.discard(part)
            self.properties.seen[AFTER_AN_OUTAGE] = 1

    def receiving(self, thread: Thread) -> bool:
        """Check that a thread may begin to receive a message."""
        missing = thread.missing & {"database", "bucket"}
        return not missing or self._broken("gate", f"{thread.name} receives, but its last call to {missing} failed.")

    def begins_to_sweep(self, process: Process, *, ours: bool, now: datetime, lifetime: timedelta) -> None:
        """Check that a process with the lock of the sweep (`ours`) is the only one. `now` is the database's time."""
        if not ours:
            self.properties.seen[SWEPT_BY_ANOTHER] = 1
            return
        others = [other.name for other, until in self._sweeps.items() if other is not process and until > now]
        # Nobody else has the lock now, even if the clock is set back before the end of an older lock.
        self._sweeps = {process: now + lifetime}
        if others:
            self._broken("sweep", f"{process.name} sweeps while {', '.join(others)} does.")

    def ends_to_sweep(self, process: Process) -> None:
        """Note that a process has ended its sweep."""
        self._sweeps.pop(process, None)

    def reported(self, report: Report, attempt: Attempt | None) -> bool:
        """Check the report about an attempt. `attempt` is its row, or None if there is none."""
        if report.outcome is Outcome.SUPERSEDED:
            self.properties.seen[NOT_ENDED_BY_US] = 1
        ending = ENDINGS.get(report.outcome)
        if attempt is None or ending in {None, attempt.ending}:
            return True
        return self._broken("report", f"{attempt.id} ended as {attempt.ending}, but is reported as {report.outcome}.")

    def shown(self, videojob: VideoJob) -> bool:
        """Check that the status of a VideoJob does not go back."""
        name, attempts = videojob.metadata.uid, videojob.status.attempts or 0
        before = self._shown.get(name, 0)
        self._shown[name] = attempts
        return attempts >= before or self._broken("L6", f"{name} showed {before} attempts, and shows {attempts}.")

    def dropped(self, report: Report, queue: str, row: Row | None) -> None:
        """Note that a worker handled a message. `queue` is the name of the message's queue, and `row` is its job's."""
        if report.outcome is Outcome.DROPPED and row and row.job.enqueued_to not in {None, queue}:
            self.properties.seen[LATE_MESSAGE] = 1

    def uploaded(self, store: InMemoryStore, clients: int) -> bool:
        """Check that no client has two videos. Each of the `clients` sends its upload with the same key again."""
        videos = [name for name, row in store.rows.items() if row.record.video.source and not row.deleted_at]
        return len(videos) <= clients or self._broken("upload", f"{clients} clients have the videos {videos}.")

    def emptied(self, queues: Sequence[Queue]) -> bool:
        """Check that the programs have handled all messages, a stated time after the last fault."""
        left = [queue.name for queue in queues if queue.bodies()]
        return not left or self._broken("queue", f"Nobody handles the messages in {left}.")

    def left(self, store: InMemoryStore, objects: InMemoryObjects) -> bool:
        """Check that no upload that nobody ends has left a row or an object. All uploads are over since a day."""
        rows = [name for name, row in store.rows.items() if row.upload_expires_at]
        due = {deletion.scheduled.key for deletion in store.deletions}
        known = {row.record.video.source_key for row in store.rows.values()} | due
        keys = [key for key in objects.contents if key.startswith(UPLOADS) and key not in known]
        return not (rows or keys) or self._broken("upload", f"Nobody ends the uploads {rows}, or deletes {keys}.")

    def _broken(self, rule: str, sentence: str) -> bool:
        self.properties.broken(rule, sentence)
        return False
