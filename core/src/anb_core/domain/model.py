"""The things we keep: video, job, attempt, lease, outbox entry, event, token. Values only; times are aware UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from anb_core.domain.codes import Code
from anb_core.domain.edit import EditSpec
from anb_core.domain.status import Status


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something went wrong, as shown to people: a stable code and a sentence.

    `detail` names hosts, paths and what other programs said: it is for who runs the system, and kept of attempts alone.
    """

    code: Code
    message: str
    detail: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of an uploaded object once it is whole. `sha256` in hexadecimal, None where we saw no bytes."""

    size: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Video:
    """What a person uploaded."""

    id: str
    owner: str
    title: str
    edit: EditSpec
    """What is to be done to it."""
    source_key: str
    """Where in the bucket the upload is."""
    owned: bool
    """Whether we wrote that object. Only then may we delete it."""
    file_name: str
    """As the person's computer called it, made safe."""
    created_at: datetime
    source: Source | None = None
    """None until the upload is whole."""


@dataclass(frozen=True, slots=True)
class Result:
    """A finished video: its object and what was verified of it. `duration` in seconds, `size` in bytes."""

    key: str
    size: int
    sha256: str
    width: int
    height: int
    duration: float
    frames: int


@dataclass(frozen=True, slots=True)
class Counters:
    """How often the attempts of one generation went wrong, each way apart."""

    failures: int = 0
    """The attempt itself failed."""
    lost: int = 0
    """Its worker went away without a word."""
    interruptions: int = 0
    """Its worker said that it goes away, or a part that it needs was away."""


Receipts = Mapping[str, Mapping[str, Any]]
"""The last order of each issuer that was carried out, by the issuer's id. The content is the issuer's own.

An issuer is whoever states orders that must not be carried out twice, such as an object of another system.
"""


@dataclass(frozen=True, slots=True)
class Job:
    """The work on a video. A video has one job for its whole life."""

    id: str
    """`task_id` on the wire."""
    video_id: str
    status: Status
    generation: int
    """1, and one more with every retry by a person."""
    fence: int
    """Grows with every claim and every cancel. A worker's write that carries an older fence changes nothing."""
    version: int
    """Grows with every write that people can see."""
    counters: Counters
    """Of the present generation."""
    progress: float
    """Of the present attempt, from 0 to 1."""
    attempts: int
    """How many were ever made, over all generations."""
    lease_owner: str | None
    """The id of the attempt that works on it. None: nobody does."""
    lease_expires_at: datetime | None
    """When the attempt counts as lost unless its worker renews the lease."""
    worker: str | None
    """The name of the worker that has the lease."""
    not_before: datetime | None
    """The next attempt begins no earlier. None: it may begin at once."""
    enqueued_at: datetime | None
    """When its message was last sent to the queue."""
    enqueued_to: str | None
    """The name of the queue that the message was sent to."""
    error: Problem | None
    """Why the job ended without a result."""
    result: Result | None
    """The current result, only of a processed job."""
    receipts: Receipts
    """Written in the transaction that carries an order out, so that no order is carried out twice."""
    created_at: datetime
    updated_at: datetime
    """When `version` grew last."""


@dataclass(frozen=True, slots=True)
class Record:
    """A video and its job, read together."""

    video: Video
    job: Job


@dataclass(frozen=True, slots=True)
class NewVideo:
    """A video that is about to be recorded; its fields are those of `Video` and `Job`."""

    id: str
    task_id: str
    """The job's id."""
    owner: str
    title: str
    edit: EditSpec
    source_key: str
    owned: bool
    file_name: str
    receipts: Receipts = field(default_factory=dict)


class Ending(StrEnum):
    """How an attempt ended."""

    PROCESSED = "processed"
    REJECTED = "rejected"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    LOST = "lost"
    SUPERSEDED = "superseded"
    """A person cancelled, retried or deleted the video meanwhile."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a worker."""

    id: str
    job_id: str
    generation: int
    """The job's when the attempt began, and so is `fence`."""
    fence: int
    worker: str
    """The worker's name."""
    result_key: str
    """Where in the bucket it puts its result."""
    started_at: datetime
    ended_at: datetime | None = None
    """None while it is under way, and so is `ending`."""
    ending: Ending | None = None
    error: Problem | None = None
    """Why it ended without a result."""


@dataclass(frozen=True, slots=True)
class Lease:
    """An attempt's right to work on a job, as its worker holds it."""

    video_id: str
    job_id: str
    attempt_id: str
    generation: int
    fence: int
    """The job's when it was claimed. Once the job's is higher, the lease is lost."""
    worker: str
    result_key: str
    """Where in the bucket the attempt puts its result."""
    counters: Counters
    """The job's when it was claimed: what the end of this attempt adds to."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's Idempotency-Key, kept for `lifetime` after the upload began.

    An upload under way that has not been renewed for `silence` gives its key up to the next one; None: never.
    """

    key: str
    lifetime: timedelta
    silence: timedelta | None = None


class DeadLetterCause(StrEnum):
    """Why a person has to look."""

    FAILURES = "failures"
    WORKER_LOST = "worker_lost"
    UNKNOWN_JOB = "unknown_job"
    UNREADABLE = "unreadable"


class EventKind(StrEnum):
    """What a feed entry tells."""

    STATUS = "status"
    PROGRESS = "progress"
    ATTEMPT = "attempt"
    """An attempt began or ended and the status stayed the same."""
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One entry of the feed: how a job stands after a change."""

    id: int
    """Grows in the order of commits."""
    kind: EventKind
    video_id: str
    job_id: str
    owner: str
    """The video's."""
    version: int
    """The job's after the change."""
    status: Status
    progress: float
    """From 0 to 1."""
    at: datetime
    """When it was written, by the database's clock."""
    error: Problem | None = None
    """Why the attempt ended, else what is wrong with the job."""


class Scope(StrEnum):
    """What a token allows: a user's own videos, or everybody's."""

    USER = "user"
    OPS = "ops"


@dataclass(frozen=True, slots=True)
class Token:
    """An API token; only its hash is kept. `expires_at` None means never."""

    id: str
    owner: str
    scope: Scope
    hash: str = field(repr=False)
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class DeletionReason(StrEnum):
    """Why an object is to be deleted."""

    ABANDONED_UPLOAD = "abandoned_upload"
    """Its upload was broken off, cancelled or never finished."""
    LOSING_ATTEMPT = "losing_attempt"
    """Its attempt ended without becoming the current result."""
    TOMBSTONE = "tombstone"
    """Its video was deleted."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """An object that is to be deleted, and why. It is due when the row says so."""

    id: int
    key: str
    reason: DeletionReason
