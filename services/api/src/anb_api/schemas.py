"""The models of the API's responses. docs/api.md describes them."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self, TypeVar

from pydantic import AwareDatetime, BaseModel, Field, PlainSerializer

from anb_core.domain import model
from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import Conflict, Invalid
from anb_core.domain.model import Ending, Record
from anb_core.domain.naming import INVISIBLE, VIDEO_ID_PATTERN, check_video_id
from anb_core.domain.status import Change, Status, next_status
from anb_core.ports.store import Page

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Time = Annotated[AwareDatetime, PlainSerializer(lambda time: time.astimezone(UTC).isoformat(timespec="milliseconds"))]

_CONTROLS = r"\u0000-\u001f\u007f-\u009f\u2028\u2029"
# Some tools that read the schema do not support characters above U+FFFF.
_BLANK = INVISIBLE.partition(r"\U")[0]
PRINTABLE_PATTERN = rf"^[^{_CONTROLS}]*[^{_CONTROLS}\s{_BLANK}][^{_CONTROLS}]*$"
"""Matches one line of text that has at least one visible character."""

VideoId = Annotated[str, Field(pattern=VIDEO_ID_PATTERN, description="The video's id.")]
Progress = Annotated[float, Field(ge=0, le=1, description="Share of the work that is done, from 0 to 1.")]


ProcessAfter = Annotated[
    Time | None, Field(description="The work was not to begin before this time. Null if it could begin at once.")
]


class Links(BaseModel):
    """Paths of the actions on a video. A path is null if the current status does not allow the action."""

    self: str
    events: str
    download: str | None
    cancel: str | None
    retry: str | None

    @classmethod
    def of(cls, video_id: str, status: Status, prefix: str) -> "Links":
        """Return the links of a video with the given status. `prefix` is the API's path prefix in the client's URLs."""
        path = f"{prefix}/api/videos/{video_id}"
        return Links(
            self=path,
            events=f"{path}/events",
            download=f"{path}/download" if status is Status.PROCESSED else None,
            cancel=f"{path}/cancel" if _allowed(status, Change.CANCEL) else None,
            retry=f"{path}/retry" if _allowed(status, Change.RETRY) else None,
        )


class Error(BaseModel):
    """An error of a job or an attempt: a stable error code and a sentence."""

    code: str
    message: str

    @classmethod
    def of(cls, problem: model.Problem | None) -> "Error | None":
        """Return the response model of a problem, or None if there is no problem."""
        return Error(code=problem.code, message=problem.message) if problem else None


class AttemptError(Error):
    """The error of an attempt."""

    detail: Annotated[
        str | None,
        Field(description="Technical details, such as hosts and paths. Null without `detail=true` and scope `ops`."),
    ]


class Source(BaseModel):
    """The uploaded file. `size` is in bytes. `sha256` is null for a file that was not uploaded through the API."""

    size: int
    sha256: str | None


class Result(BaseModel):
    """The finished video. `size` is in bytes, `width` and `height` in pixels, `duration` in seconds."""

    size: int
    sha256: str
    width: int
    height: int
    duration: float
    frames: int


class Attempt(BaseModel):
    """One attempt of a worker to process the video."""

    attempt_id: str
    generation: int
    worker: str
    started_at: Time
    ended_at: Time | None
    ending: Ending | None
    error: AttemptError | None

    @classmethod
    def of(cls, attempt: model.Attempt, *, detailed: bool) -> "Attempt":
        """Return the response model of an attempt. With `detailed`, include the technical details of the error."""
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
    """The confirmation that an upload is stored and will be processed."""

    video_id: VideoId
    task_id: str
    status: Status
    process_after: ProcessAfter
    links: Links

    @classmethod
    def of(cls, record: Record, prefix: str) -> "Receipt":
        """Return the receipt of an upload. The status is always `uploaded`, so repeated uploads get equal receipts."""
        return Receipt(
            video_id=record.video.id,
            task_id=record.job.id,
            status=Status.UPLOADED,
            process_after=record.video.process_after,
            links=Links.of(record.video.id, Status.UPLOADED, prefix),
        )


class Video(BaseModel):
    """A video and its job."""

    video_id: VideoId
    task_id: str
    owner: str
    title: str
    file_name: str
    status: Status
    progress: Progress
    generation: Annotated[int, Field(description="Increases with every retry by a person.")]
    attempts: Annotated[int, Field(description="Number of all attempts, in all generations.")]
    failures: Annotated[int, Field(description="Number of attempts in this generation that failed.")]
    lost: Annotated[int, Field(description="Number of attempts in this generation whose lease expired.")]
    interruptions: Annotated[int, Field(description="Number of attempts in this generation that were interrupted.")]
    error: Error | None
    created_at: Time
    updated_at: Time
    process_after: ProcessAfter
    edit: EditSpec
    source: Source | None
    result: Result | None
    links: Links

    @classmethod
    def of(cls, record: Record, prefix: str) -> Self:
        """Return the response model of a video."""
        return cls(**_fields_of(record, prefix))


class VideoDetail(Video):
    """A video with all its attempts, oldest attempt first."""

    history: list[Attempt]

    @classmethod
    def with_history(
        cls, record: Record, attempts: Sequence[model.Attempt], prefix: str, *, detailed: bool
    ) -> "VideoDetail":
        """Return the response model of a video with its attempts. With `detailed`, errors have technical details."""
        history = [Attempt.of(attempt, detailed=detailed) for attempt in attempts]
        return VideoDetail(**_fields_of(record, prefix), history=history)


class VideoList(BaseModel):
    """One page of videos, newest first."""

    videos: list[Video]
    next_cursor: Annotated[str | None, Field(description="Value of `cursor` for the next page; null on the last page.")]


class Explanation(BaseModel):
    """Where a video is, and what it waits for."""

    video_id: VideoId
    status: Status
    sentences: Annotated[list[str], Field(description="Texts of one or more sentences for people. They may change.")]


class Event(BaseModel):
    """The data of one server-sent event."""

    video_id: VideoId
    status: Status
    progress: Progress
    version: Annotated[int, Field(description="Increases with every visible change of the video.")]
    at: Time
    error: Error | None

    @classmethod
    def of(cls, event: model.JobEvent) -> "Event":
        """Return the response model of a feed event."""
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
        """Return an event with the current state of a video."""
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
    """The process is alive."""

    status: Annotated[str, Field(pattern="^ok$")] = "ok"


class Check(BaseModel):
    """Whether a dependency of the API, such as the database, responds."""

    ok: bool
    required: Annotated[bool, Field(description="True if the API is not ready without this part.")]
    detail: str | None


class Readiness(BaseModel):
    """Whether the API can serve requests."""

    ready: bool
    checks: dict[str, Check]


def write_cursor(page: Page) -> str:
    """Return the opaque cursor for the page that follows the given position in the list of videos."""
    return write_position(page.created_at, page.video_id)


def read_cursor(cursor: str) -> Page:
    """Return the position in the list of videos that `write_cursor` encoded.

    Raises:
        Invalid: the cursor was not made by `write_cursor` (`cursor_invalid`).
    """
    return Page(*read_position(cursor, _checked_video_id))


def write_position(created_at: datetime, key: str | int) -> str:
    """Return a cursor for the position in a list after the entry with the given time and key."""
    position = json.dumps([(created_at - _EPOCH) // timedelta(microseconds=1), key])
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def read_position(cursor: str, check: Callable[[Any], T]) -> tuple[datetime, T]:
    """Return the time and the key that `write_position` encoded. `check` validates and returns the key.

    Raises:
        Invalid: the cursor was not made by `write_position`, or `check` raised an error (`cursor_invalid`).
    """
    try:
        microseconds, key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return _EPOCH + timedelta(microseconds=int(microseconds)), check(key)
    except (Invalid, ValueError, TypeError, OverflowError, RecursionError, binascii.Error) as error:
        message = "The cursor is not valid: use `next_cursor` from the previous page, without changes."
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
        "process_after": video.process_after,
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


def _checked_video_id(video_id: str) -> str:
    check_video_id(video_id)
    return video_id


def _allowed(status: Status, change: Change) -> bool:
    try:
        next_status(status, change)
    except Conflict:
        return False
    return True
