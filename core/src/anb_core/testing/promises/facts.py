"""Groups the evidence by video and by object key. The rules of the promises read this form."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from anb_core.domain.dead_letters import DeadLetter
from anb_core.domain.model import Attempt, Ending, EventKind, Job, JobEvent, Record
from anb_core.domain.retry import RetryPolicy
from anb_core.domain.status import Status
from anb_core.testing.promises.evidence import Evidence
from anb_core.usecases.sweep import DEAD_LETTERS_KEPT


@dataclass(frozen=True, slots=True)
class Case:
    """One video with all its rows."""

    record: Record
    deleted: bool
    attempts: Sequence[Attempt]
    """All attempts of the job, in the order of their fences."""
    letters: Sequence[DeadLetter]
    entries: int
    """Number of outbox entries."""

    @property
    def job(self) -> Job:
        return self.record.job

    @property
    def name(self) -> str:
        return f"video {self.job.video_id} ({self.job.status}, generation {self.job.generation})"

    @property
    def waits(self) -> bool:
        """Whether the job waits for a worker: the upload is complete, the job is not finished, and no attempt runs."""
        return self.job.status in {Status.UPLOADED, Status.PROCESSING} and self.job.lease_owner is None

    def is_scheduled(self, now: datetime) -> bool:
        """Whether a person set a time for the job's begin (`process_after`) that has not come yet."""
        job = self.job
        return job.status is Status.UPLOADED and job.not_before is not None and job.not_before > now

    @property
    def verdicts(self) -> Sequence[DeadLetter]:
        """The dead letters that say why the job ended in its current generation."""
        return [one for one in self.letters if one.generation == self.job.generation and one.about_the_job]

    def ended(self, ending: Ending) -> Sequence[Attempt]:
        """The attempts of the current generation that ended with `ending`."""
        generation = self.record.job.generation
        return [one for one in self.attempts if one.ending is ending and one.generation == generation]


class Facts:
    """The rows, objects and messages that were read at one moment, grouped by video and by object key.

    `earlier` has the facts of an earlier moment of the same run, or None.
    """

    def __init__(
        self, evidence: Evidence, policy: RetryPolicy, *, at_rest: bool = False, earlier: "Facts | None" = None
    ) -> None:
        self.evidence = evidence
        self.policy = policy
        self.at_rest = at_rest
        self.earlier = earlier
        attempts: dict[str, list[Attempt]] = {}
        for attempt in sorted(evidence.attempts, key=lambda one: one.fence):
            attempts.setdefault(attempt.job_id, []).append(attempt)
        letters: dict[str | None, list[DeadLetter]] = {}
        for letter in evidence.dead_letters:
            letters.setdefault(letter.video_id, []).append(letter)
        entries = Counter(evidence.outbox)
        self.cases = {
            record.video.id: Case(
                record,
                record.video.id in evidence.deleted,
                attempts.get(record.job.id, []),
                letters.get(record.video.id, []),
                entries[record.job.id],
            )
            for record in evidence.records
        }
        self.due: dict[str, datetime] = {}
        """For each key that is scheduled for deletion, the time of its next deletion."""
        for one in evidence.deletions:
            self.due[one.key] = min(one.due, self.due.get(one.key, one.due))
        self.events: dict[str, list[JobEvent]] = {}
        for event in evidence.events:
            self.events.setdefault(event.video_id, []).append(event)

    def forgets(self, case: Case) -> bool:
        """Whether the sweep may already have removed dead letters of the current generation, because they are old."""
        return self.evidence.now - case.job.updated_at > DEAD_LETTERS_KEPT

    def was_deleted(self, video_id: str) -> bool:
        """Whether the feed has an event that a person deleted the video after its upload was complete."""
        return any(
            event.kind is EventKind.DELETED and event.status is not Status.UPLOADING
            for event in self.events.get(video_id, [])
        )


Rule = Callable[[Facts], Iterator[str]]
"""A rule of a promise. Yields a sentence for each violation that the facts show."""
