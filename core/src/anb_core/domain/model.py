"""The records that the store keeps: video, job, attempt, lease, event, token. All times have the time zone UTC."""

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
    """The error of a job or of an attempt."""

    code: Code
    """A stable code that programs compare."""
    message: str
    """One or two sentences for the owner of the video."""
    detail: str | None = field(default=None, compare=False)
    """Hosts, paths and error texts of other programs, for operators only. Stored with attempts, not with jobs."""


@dataclass(frozen=True, slots=True)
class Source:
    """An uploaded object that is complete."""

    size: int
    """Bytes."""
    sha256: str | None = None
    """Hexadecimal SHA-256. None for a submitted object, because we did not read its bytes."""


@dataclass(frozen=True, slots=True)
class Video:
    """A video that a person uploaded or submitted."""

    id: str
    owner: str
    title: str
    edit: EditSpec
    """The edit that the person asked for."""
    source_key: str
    """Key of the uploaded object in the bucket."""
    owned: bool
    """Whether we wrote the uploaded object. We delete only objects that we wrote."""
    file_name: str
    """Name of the file on the person's computer, made safe by `safe_file_name`."""
    created_at: datetime
    source: Source | None = None
    """The uploaded object. None until the upload is complete."""


@dataclass(frozen=True, slots=True)
class Result:
    """A finished video that was verified."""

    key: str
    """Key of the object in the bucket."""
    size: int
    """Bytes."""
    sha256: str
    """Hexadecimal SHA-256 of the object."""
    width: int
    height: int
    """Pixels."""
    duration: float
    """Seconds."""
    frames: int
    """Number of video frames."""


@dataclass(frozen=True, slots=True)
class Counters:
    """How many attempts of one generation ended without a result. Each kind of end has its own count."""

    failures: int = 0
    """Attempts that failed."""
    lost: int = 0
    """Attempts whose lease expired, because their worker crashed or lost its connection to the database."""
    interruptions: int = 0
    """Attempts that ended because their worker shut down, or because the database, bucket or queue did not answer."""


Receipts = Mapping[str, Mapping[str, Any]]
"""Maps the id of each issuer to the last order of this issuer that was carried out.

An issuer is a source of orders that must not be carried out twice, such as a VideoJob in Kubernetes.
The issuer decides what an order contains.
"""


@dataclass(frozen=True, slots=True)
class Job:
    """The work on a video. A video has one job for its whole life."""

    id: str
    """The API and the queue messages call it `task_id`."""
    video_id: str
    status: Status
    generation: int
    """Starts at 1 and grows by 1 each time a person retries the job."""
    fence: int
    """Grows by 1 with every claim and every cancel. A worker's write with an older fence changes nothing."""
    version: int
    """Grows by 1 with every change that people can see."""
    counters: Counters
    """Counters of the current generation."""
    progress: float
    """Progress of the current attempt, from 0 to 1."""
    attempts: int
    """How many attempts were made, over all generations."""
    lease_owner: str | None
    """Id of the attempt that has the lease. None while no attempt works on the job."""
    lease_expires_at: datetime | None
    """Time at which the attempt counts as lost, unless its worker renews the lease. None without a lease."""
    worker: str | None
    """Name of the worker that has the lease. None without a lease."""
    not_before: datetime | None
    """Earliest time of the next attempt. None if the next attempt may begin at once."""
    enqueued_at: datetime | None
    """Time at which the job's message was last sent to a queue. None if no message was sent yet."""
    enqueued_to: str | None
    """Name of the queue that the job's message was last sent to."""
    error: Problem | None
    """Why the job failed or became a dead letter, otherwise None."""
    result: Result | None
    """The current result. None unless the job is processed."""
    receipts: Receipts
    """The receipts of orders. The transaction that carries out an order also stores the receipt of the order.
    Because the effects of an order and its receipt are stored together, no order is carried out twice."""
    created_at: datetime
    updated_at: datetime
    """Time at which `version` last changed."""


@dataclass(frozen=True, slots=True)
class Record:
    """A video and its job, read in one transaction."""

    video: Video
    job: Job


@dataclass(frozen=True, slots=True)
class NewVideo:
    """A video that will be stored. Its fields mean the same as in `Video` and `Job`."""

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
    """A person cancelled, retried or deleted the video during the attempt."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one worker to process a video."""

    id: str
    job_id: str
    generation: int
    """The job's generation when the attempt began."""
    fence: int
    """The job's fence after the attempt's claim."""
    worker: str
    """Name of the worker."""
    result_key: str
    """Key under which the attempt stores its result in the bucket."""
    started_at: datetime
    ended_at: datetime | None = None
    """Time at which the attempt ended. None while the attempt runs."""
    ending: Ending | None = None
    """How the attempt ended. None while the attempt runs."""
    error: Problem | None = None
    """The error that ended the attempt, if any."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to work on a job, for one attempt."""

    video_id: str
    job_id: str
    attempt_id: str
    generation: int
    fence: int
    """The job's fence after the claim. The lease is lost as soon as the job's fence is higher."""
    worker: str
    result_key: str
    """Key under which the attempt stores its result in the bucket."""
    counters: Counters
    """The job's counters after the claim. The end of this attempt adds to these counters."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A caller's Idempotency-Key."""

    key: str
    lifetime: timedelta
    """How long the key is stored after the upload has begun."""
    silence: timedelta | None = None
    """An unfinished upload that was not renewed for this long loses its key to the next upload with the same key.
    None if an unfinished upload always keeps its key."""


class DeadLetterCause(StrEnum):
    """Why a job or a message became a dead letter, which a person has to examine."""

    FAILURES = "failures"
    """The job has used up its failures."""
    WORKER_LOST = "worker_lost"
    """The job has used up its losses."""
    UNKNOWN_JOB = "unknown_job"
    """The message names a video that does not exist."""
    UNREADABLE = "unreadable"
    """The message does not have the format of our messages."""


class EventKind(StrEnum):
    """The kind of change that an entry of the feed reports."""

    STATUS = "status"
    """The status changed."""
    PROGRESS = "progress"
    """The progress grew, but the status stayed the same."""
    ATTEMPT = "attempt"
    """An attempt began or ended, but the status stayed the same."""
    DELETED = "deleted"
    """A person deleted the video."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One entry of the feed: the state of a job after a change."""

    id: int
    """Id of the event. Ids grow in the order in which the changes were committed."""
    kind: EventKind
    video_id: str
    job_id: str
    owner: str
    """Owner of the video."""
    version: int
    """The job's version after the change."""
    status: Status
    progress: float
    """Progress of the attempt, from 0 to 1."""
    at: datetime
    """Time at which the entry was written, by the database's clock."""
    error: Problem | None = None
    """The error that ended the attempt, or otherwise the job's error, if any."""


class Scope(StrEnum):
    """Which videos a token gives access to."""

    USER = "user"
    """The videos of the token's owner."""
    OPS = "ops"
    """The videos of all owners."""


@dataclass(frozen=True, slots=True)
class Token:
    """An API token. The secret itself is not stored, only its hash."""

    id: str
    owner: str
    scope: Scope
    hash: str = field(repr=False)
    """Hexadecimal SHA-256 of the secret."""
    created_at: datetime
    expires_at: datetime | None = None
    """Time at which the token expires. None if the token never expires."""
    revoked_at: datetime | None = None
    """Time at which the token was revoked. None if the token was not revoked."""


class DeletionReason(StrEnum):
    """The reason for which an object has to be deleted."""

    ABANDONED_UPLOAD = "abandoned_upload"
    """The upload of the object was interrupted, cancelled or never finished."""
    LOSING_ATTEMPT = "losing_attempt"
    """The attempt that wrote the object did not produce the job's current result."""
    TOMBSTONE = "tombstone"
    """The video of the object was deleted."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """An object that has to be deleted now, and the reason."""

    id: int
    key: str
    reason: DeletionReason
