"""What the API answers, as models; docs/api.md tells of them."""

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, Field, PlainSerializer

from anb_core.domain import model
from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Conflict, Invalid
from anb_core.domain.model import Ending, Record
from anb_core.domain.naming import VIDEO_ID_PATTERN, check_video_id
from anb_core.domain.status import Change, Status, next_status
from anb_core.ports.store import Page

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Time = Annotated[AwareDatetime, PlainSerializer(lambda time: time.astimezone(UTC).isoformat(timespec="milliseconds"))]

VideoId = Annotated[str, Field(pattern=VIDEO_ID_PATTERN, description="The video's id.")]
Progress = Annotated[float, Field(ge=0, le=1, description="How much of the work is done.")]


class Links(BaseModel):
    """What can be done next; null where the present status does not allow it."""

    self: str
    events: str
    download: str | None
    cancel: str | None
    retry: str | None

    @classmethod
    def of(cls, video_id: str, status: Status, prefix: str) -> "Links":
        """The links of a video in this status, for somebody who sees the API under `prefix`."""
        here = f"{prefix}/api/videos/{video_id}"
        return Links(
            self=here,
            events=f"{here}/events",
            download=f"{here}/download" if status is Status.PROCESSED else None,
            cancel=f"{here}/cancel" if _allowed(status, Change.CANCEL) else None,
            retry=f"{here}/retry" if _allowed(status, Change.RETRY) else None,
        )


class Error(BaseModel):
    """Why something went wrong: a stable word and a sentence."""

    code: str
    message: str

    @classmethod
    def of(cls, problem: model.Problem | None) -> "Error | None":
        """The same, or None."""
        return Error(code=problem.code, message=problem.message) if problem else None


class AttemptError(Error):
    """Why an attempt went wrong."""

    detail: Annotated[
        str | None,
        Field(description="What the log says, with hosts and paths: with `detail=true`, for tokens of scope `ops`."),
    ]


class Source(BaseModel):
    """What was uploaded. `size` in bytes; `sha256` is null for an object that did not pass through us."""

    size: int
    sha256: str | None


class Result(BaseModel):
    """The finished video. `size` in bytes, `duration` in seconds."""

    size: int
    sha256: str
    width: int
    height: int
    duration: float
    frames: int


class Attempt(BaseModel):
    """One try of a worker."""

    attempt_id: str
    generation: int
    worker: str
    started_at: Time
    ended_at: Time | None
    ending: Ending | None
    error: AttemptError | None

    @classmethod
    def of(cls, attempt: model.Attempt, *, detailed: bool) -> "Attempt":
        """The public part of an attempt, and where `detailed` what only those may read who run the system."""
        problem = attempt.error
        error = problem and AttemptError(
            code=problem.code, message=problem.message, detail=problem.detail if detailed else None
        )
        return Attempt(
            attempt_id=attempt.id,
            generation=attempt.generation,
            worker=attempt.worker,
            started_at=attempt.started_at,
            ended_at=attempt.ended_at,
            ending=attempt.ending,
            error=error,
        )


class Receipt(BaseModel):
    """An upload was taken in; the work on it is promised."""

    video_id: VideoId
    task_id: str
    status: Status
    links: Links

    @classmethod
    def of(cls, record: Record, prefix: str) -> "Receipt":
        """The receipt says how things stood when it was first given, so that a repeated upload gets the same one."""
        return Receipt(
            video_id=record.video.id,
            task_id=record.job.id,
            status=Status.UPLOADED,
            links=Links.of(record.video.id, Status.UPLOADED, prefix),
        )


class Video(BaseModel):
    """A video and the work on it."""

    video_id: VideoId
    task_id: str
    owner: str
    title: str
    file_name: str
    status: Status
    progress: Progress
    generation: Annotated[int, Field(description="Grows with every retry by a person.")]
    attempts: Annotated[int, Field(description="How many attempts were ever made.")]
    failures: Annotated[int, Field(description="Attempts of this generation that failed.")]
    lost: Annotated[int, Field(description="Attempts of this generation whose worker went away without a word.")]
    interruptions: Annotated[int, Field(description="Attempts of this generation that were handed on.")]
    error: Error | None
    created_at: Time
    updated_at: Time
    edit: EditSpec
    source: Source | None
    result: Result | None
    links: Links

    @classmethod
    def of(cls, record: Record, prefix: str) -> Self:
        """The public part of a record."""
        return cls(**_fields_of(record, prefix))


class VideoDetail(Video):
    """A video with the history of its attempts, oldest first."""

    history: list[Attempt]

    @classmethod
    def with_history(
        cls, record: Record, attempts: Sequence[model.Attempt], prefix: str, *, detailed: bool
    ) -> "VideoDetail":
        """The public part of a record and its attempts, whose errors may be `detailed`."""
        history = [Attempt.of(attempt, detailed=detailed) for attempt in attempts]
        return VideoDetail(**_fields_of(record, prefix), history=history)


class VideoList(BaseModel):
    """One page, newest first."""

    videos: list[Video]
    next_cursor: Annotated[str | None, Field(description="Give it as `cursor` to get the next page; null on the last.")]


class Event(BaseModel):
    """The data of one server-sent event."""

    video_id: VideoId
    status: Status
    progress: Progress
    version: Annotated[int, Field(description="Grows with every change that people can see.")]
    at: Time
    error: Error | None

    @classmethod
    def of(cls, event: model.JobEvent) -> "Event":
        """The public part of a feed entry."""
        return Event(
            video_id=event.video_id,
            status=event.status,
            progress=event.progress,
            version=event.version,
            at=event.at,
            error=Error.of(event.error),
        )

    @classmethod
    def snapshot(cls, record: Record) -> "Event":
        """How things stand."""
        job = record.job
        return Event(
            video_id=job.video_id,
            status=job.status,
            progress=job.progress,
            version=job.version,
            at=job.updated_at,
            error=Error.of(job.error),
        )


class Health(BaseModel):
    """The process turns."""

    status: Annotated[str, Field(pattern="^ok$")] = "ok"


class Check(BaseModel):
    """Whether a part answers, and if not, why this matters."""

    ok: bool
    required: Annotated[bool, Field(description="Whether the API is ready without it.")]
    detail: str | None


class Readiness(BaseModel):
    """Whether requests can be served."""

    ready: bool
    checks: dict[str, Check]


def write_cursor(page: Page) -> str:
    """Where a listing goes on, as one opaque word."""
    place = json.dumps([(page.created_at - _EPOCH) // timedelta(microseconds=1), page.video_id])
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> Page:
    """The opposite of `write_cursor`.

    Raises:
        Invalid: `cursor_invalid`.
    """
    try:
        microseconds, video_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        check_video_id(video_id)
        return Page(_EPOCH + timedelta(microseconds=int(microseconds)), video_id)
    except (Invalid, ValueError, TypeError, OverflowError, RecursionError, binascii.Error) as error:
        message = "The cursor is none of ours: take `next_cursor` from the page before, as it is."
        raise Invalid("cursor_invalid", message) from error


def _fields_of(record: Record, prefix: str) -> dict[str, object]:
    video, job = record.video, record.job
    return {
        "video_id": video.id,
        "task_id": job.id,
        "owner": video.owner,
        "title": video.title,
        "file_name": video.file_name,
        "status": job.status,
        "progress": job.progress,
        "generation": job.generation,
        "attempts": job.attempts,
        "failures": job.counters.failures,
        "lost": job.counters.lost,
        "interruptions": job.counters.interruptions,
        "error": Error.of(job.error),
        "created_at": video.created_at,
        "updated_at": job.updated_at,
        "edit": video.edit,
        "source": Source(size=video.source.size, sha256=video.source.sha256) if video.source else None,
        "result": job.result
        and Result(
            size=job.result.size,
            sha256=job.result.sha256,
            width=job.result.width,
            height=job.result.height,
            duration=job.result.duration,
            frames=job.result.frames,
        ),
        "links": Links.of(video.id, job.status, prefix),
    }


def _allowed(status: Status, change: Change) -> bool:
    try:
        next_status(status, change)
    except Conflict:
        return False
    return True
