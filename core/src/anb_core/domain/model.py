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
    """What a person uploaded: `source_key` is its object; only an `owned` one was written by us and may be deleted."""

    id: str
    owner: str
    title: str
    edit: EditSpec
    source_key: str
    owned: bool
    file_name: str
    created_at: datetime
    source: Source | None = None


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
    lost: int = 0
    interruptions: int = 0


Receipts = Mapping[str, Mapping[str, Any]]
"""The last order of each issuer that was carried out, by the issuer's id. The content is the issuer's own.

An issuer is whoever states orders that must not be carried out twice, such as an object of another system.
"""


@dataclass(frozen=True, slots=True)
class Job:
    """The work on a video, one for life.

    `version` grows with every write that people can see; `attempts` counts all ever made. `receipts` are written
    in the transaction that carries an order out, so that no order is carried out twice.
    """

    id: str
    video_id: str
    status: Status
    generation: int
    fence: int
    version: int
    counters: Counters
    progress: float
    attempts: int
    lease_owner: str | None
    lease_expires_at: datetime | None
    worker: str | None
    not_before: datetime | None
    enqueued_at: datetime | None
    enqueued_to: str | None
    error: Problem | None
    result: Result | None
    receipts: Receipts
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Record:
    """A video and its job, read together."""

    video: Video
    job: Job


@dataclass(frozen=True, slots=True)
class NewVideo:
    """A video that is about to be recorded."""

    id: str
    task_id: str
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
    """One try of a worker. `result_key` is where it would put its result."""

    id: str
    job_id: str
    generation: int
    fence: int
    worker: str
    result_key: str
    started_at: datetime
    ended_at: datetime | None = None
    ending: Ending | None = None
    error: Problem | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """An attempt's claim on a job, as its worker holds it. A write carrying an old `fence` changes nothing."""

    video_id: str
    job_id: str
    attempt_id: str
    generation: int
    fence: int
    worker: str
    result_key: str
    counters: Counters


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
    """One entry of the feed. Ids grow in the order of commits; `version` is the job's."""

    id: int
    kind: EventKind
    video_id: str
    job_id: str
    owner: str
    version: int
    status: Status
    progress: float
    at: datetime
    error: Problem | None = None


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
