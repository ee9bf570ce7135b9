"""The records that the store keeps: video, job, attempt, lease, event, token. All times are in UTC."""

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
    """Error code, one of `anb_core.domain.codes`. Programs compare the code."""
    message: str
    """The error in one or two sentences, for the owner of the video."""
    detail: str | None = field(default=None, compare=False)
    """Host names, paths and error texts of other programs. Only the operator of the deployment may read them.
    Only errors of attempts have a detail. Errors of jobs have none."""


@dataclass(frozen=True, slots=True)
class Source:
    """The size and checksum of an uploaded object that is complete."""

    size: int
    """Size of the object in bytes."""
    sha256: str | None = None
    """Hexadecimal SHA-256 of the object. None for a submitted object, because we did not read its bytes."""


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
    """Whether ANB Video wrote the uploaded object. Objects that other programs wrote are never deleted."""
    file_name: str
    """Name of the file on the person's computer, made safe by `safe_file_name`."""
    created_at: datetime
    source: Source | None = None
    """Size and checksum of the uploaded object. None until the upload is complete."""
    process_after: datetime | None = None
    """Time before which the person did not want the work to begin. None if the work was allowed to begin at once.
    Only the job's `not_before` delays the work. A retry does not wait for this time."""


@dataclass(frozen=True, slots=True)
class Result:
    """The finished file of a video, after its verification."""

    key: str
    """Key of the finished file in the bucket."""
    size: int
    """Size of the finished file in bytes."""
    sha256: str
    """Hexadecimal SHA-256 of the finished file."""
    width: int
    height: int
    """Width and height of the picture in pixels."""
    duration: float
    """Duration of the finished video in seconds."""
    frames: int
    """Number of video frames."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Numbers of attempts of one generation that ended without a result. Each kind of ending has its own counter."""

    failures: int = 0
    """Number of attempts that failed."""
    lost: int = 0
    """Number of attempts whose lease expired, because the worker crashed or lost its connection to the database."""
    interruptions: int = 0
    """Number of attempts that ended because the worker shut down, or the database, bucket or queue did not answer."""


Receipts = Mapping[str, Mapping[str, Any]]
"""Maps the id of each issuer to a note about the issuer's last command that was carried out.

An issuer gives commands that must not be carried out twice. The issuers are VideoJobs in Kubernetes.
The issuer chooses the content of the note.
"""


@dataclass(frozen=True, slots=True)
class Job:
    """The work on a video. A video has one job for its whole life."""

    id: str
    """Id of the job. The API and the queue messages call this id `task_id`."""
    video_id: str
    status: Status
    generation: int
    """Number that starts at 1 and grows by 1 each time a person retries the job."""
    fence: int
    """Number that grows by 1 with each claim, each cancel, and each deletion of a job that has not ended.
    A worker's write with an old fence changes nothing."""
    version: int
    """Number that grows by 1 with every change of the job that the API shows."""
    counters: Counters
    """Numbers of failures, losses and interruptions in the current generation."""
    progress: float
    """Progress of the current attempt, from 0 to 1."""
    attempts: int
    """Number of attempts in all generations together."""
    lease_owner: str | None
    """Id of the attempt that has the lease. None while no attempt works on the job."""
    lease_expires_at: datetime | None
    """Time at which the lease expires, unless the worker renews the lease. None if the job has no lease."""
    worker: str | None
    """Name of the worker that has the lease. None if the job has no lease."""
    not_before: datetime | None
    """Earliest time of the next attempt. None if the next attempt may begin at once."""
    enqueued_at: datetime | None
    """Time at which the job's message was last sent to a queue. None if no message was sent yet."""
    enqueued_to: str | None
    """Name of the queue to which the job's message was last sent."""
    error: Problem | None
    """The error that ended the job as `failed` or `dead_lettered`. None in any other status."""
    result: Result | None
    """The finished video. None unless the job's status is `processed`."""
    receipts: Receipts
    """The receipts of the commands. The transaction that carries out a command also stores the command's receipt.
    If a command is repeated, the receipt shows that the command was already carried out."""
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
    """A video that will be stored, and its job."""

    id: str
    """Id of the video."""
    task_id: str
    """Id of the job."""
    owner: str
    """Name of the person or program that owns the video."""
    title: str
    """Title of the video, which the project's intro shows."""
    edit: EditSpec
    """The edit that the person asked for."""
    source_key: str
    """Key of the uploaded object in the bucket."""
    owned: bool
    """Whether ANB Video writes the uploaded object. Objects that other programs wrote are never deleted."""
    file_name: str
    """Name of the file on the person's computer, made safe by `safe_file_name`."""
    receipts: Receipts = field(default_factory=dict)
    """The receipt of the command that creates the video. Empty if no issuer gave the command."""
    process_after: datetime | None = None
    """Time before which the work must not begin. None, or a time in the past, if the work may begin at once."""


class Ending(StrEnum):
    """How an attempt ended."""

    PROCESSED = "processed"
    REJECTED = "rejected"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    LOST = "lost"
    SUPERSEDED = "superseded"
    """A person cancelled or deleted the video during the attempt. After a restore of the database, also an attempt
    whose result is gone, or that was running in the restored rows although a later attempt has made the result."""


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
    """Name of the worker that made the attempt."""
    result_key: str
    """Key under which the attempt stores its result in the bucket."""
    started_at: datetime
    ended_at: datetime | None = None
    """Time at which the attempt ended. None while the attempt runs."""
    ending: Ending | None = None
    """How the attempt ended. None while the attempt runs."""
    error: Problem | None = None
    """The error that ended the attempt. None if the attempt runs or ended without an error."""
    version: str | None = None
    """Version of the worker's program. None if a program from before migration 0005 made the attempt."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to work on a job, for one attempt."""

    video_id: str
    """Id of the video."""
    job_id: str
    """Id of the job."""
    attempt_id: str
    """Id of the attempt."""
    generation: int
    """The job's generation when the attempt began."""
    fence: int
    """The job's fence after the claim. The lease is lost as soon as the job has a higher fence."""
    worker: str
    """Name of the worker that has the lease."""
    result_key: str
    """Key under which the attempt stores its result in the bucket."""
    counters: Counters
    """The job's counters after the claim. The end of the attempt adds to the counters."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The Idempotency-Key of an upload, and the rules for keeping it."""

    key: str
    """The key that the client sent."""
    lifetime: timedelta
    """How long the key is stored after the upload has begun."""
    silence: timedelta | None = None
    """If an unfinished upload was not renewed for this time, the next upload with the same key may take the key.
    None if an unfinished upload always keeps its key."""


class DeadLetterCause(StrEnum):
    """Why a job or a message became a dead letter, which a person has to examine."""

    FAILURES = "failures"
    """The job reached its limit of failures."""
    WORKER_LOST = "worker_lost"
    """The job reached its limit of losses, or SQS moved a message that workers had received but never deleted."""
    UNKNOWN_JOB = "unknown_job"
    """The message names a video that does not exist."""
    UNREADABLE = "unreadable"
    """The message does not have the format of our messages."""


class EventKind(StrEnum):
    """The kind of change that an entry of the feed reports."""

    STATUS = "status"
    """The status of the job changed."""
    PROGRESS = "progress"
    """The progress grew, but the status stayed the same."""
    ATTEMPT = "attempt"
    """An attempt began or ended, or a loss was counted, but the status stayed the same."""
    DELETED = "deleted"
    """A person deleted the video."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One event of the feed: the state of a job after a change."""

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
    """Progress of the current attempt, from 0 to 1."""
    at: datetime
    """Time at which the event was written, by the database's clock."""
    error: Problem | None = None
    """The error that ended the attempt, else the error of the job, else None."""


class Scope(StrEnum):
    """The videos to which a token gives access."""

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
    """The reason why an object has to be deleted."""

    ABANDONED_UPLOAD = "abandoned_upload"
    """The upload of the object was interrupted, cancelled or never finished."""
    LOSING_ATTEMPT = "losing_attempt"
    """The attempt that wrote the object did not produce the job's current result."""
    TOMBSTONE = "tombstone"
    """The video of the object was deleted."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """A deletion that is due: an object in the bucket, and the reason for its deletion."""

    id: int
    """Id of the scheduled deletion."""
    key: str
    """Key of the object in the bucket."""
    reason: DeletionReason
    """Why the object has to be deleted."""
