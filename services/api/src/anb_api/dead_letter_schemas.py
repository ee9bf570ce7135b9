"""The models of requests and responses under /api/dead-letters. docs/api.md describes them."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from anb_api.schemas import PRINTABLE_PATTERN, Attempt, Time, read_position, write_position
from anb_core.domain import dead_letters, model
from anb_core.domain.dead_letters import DeadLetterFilter, DeadLetterPage, Resolution
from anb_core.domain.model import DeadLetterCause
from anb_core.usecases.dead_letters import MAX_REDRIVES, Listing
from anb_core.usecases.dead_letters import RedriveReport as Report

MAX_ID = 2**63 - 1
"""The largest id that the database can store."""

MAX_REASON = 500
"""Maximum number of characters of the reason for a discard."""

MAX_DELAY_SECONDS = 24 * 3600

CURSOR_FORMAT = "anb-dead-letter-cursor"

INT64 = {"format": "int64"}
"""Format of ids in the OpenAPI schema. Without a format, some generated clients would use integers of 32 bits."""

DeadLetterId = Annotated[int, Field(description="The dead letter's id.", json_schema_extra=INT64)]
Cursor = Annotated[str, Field(max_length=300, json_schema_extra={"format": CURSOR_FORMAT})]


class DeadLetter(BaseModel):
    """A job that has used up its attempts, or a message that belongs to no job. Fields without a value are null."""

    id: DeadLetterId
    cause: DeadLetterCause
    detail: Annotated[str, Field(description="The job's last error, or what is wrong with the message.")]
    code: Annotated[str | None, Field(description="Code of the job's last error.")]
    error_detail: Annotated[str | None, Field(description="Technical details, such as ffmpeg's last lines.")]
    video_id: str | None
    generation: int | None
    owner: Annotated[str | None, Field(description="Owner of the video.")]
    worker: Annotated[str | None, Field(description="Worker of the last attempt.")]
    version: Annotated[str | None, Field(description="Version of the program that made the last attempt.")]
    failures: int | None
    lost: int | None
    message_id: Annotated[str | None, Field(description="Id of the SQS message.")]
    created_at: Time
    resolution: Annotated[Resolution | None, Field(description="Null while the dead letter is open.")]
    resolved_at: Time | None
    resolved_by: str | None
    reason: Annotated[str | None, Field(description="Why a person discarded it.")]

    @classmethod
    def of(cls, letter: dead_letters.DeadLetter) -> Self:
        """Return the response model of a dead letter."""
        return cls(**asdict(letter))


class DeadLetterDetail(DeadLetter):
    """A dead letter, the body of its message, and the attempts that led to the dead letter, oldest attempt first."""

    body: Annotated[str | None, Field(description="At most 256 KiB. Only 4,096 characters of one from 90 days ago.")]
    body_bytes: Annotated[int | None, Field(description="Size of `body` in bytes.")]
    attempts: list[Attempt]

    @classmethod
    def with_attempts(cls, letter: dead_letters.DeadLetter, attempts: Sequence[model.Attempt]) -> "DeadLetterDetail":
        """Return the response model of a dead letter with its body and attempts."""
        return DeadLetterDetail(
            **asdict(letter),
            body_bytes=None if letter.body is None else len(letter.body.encode()),
            attempts=[Attempt.of(attempt, detailed=True) for attempt in attempts],
        )


class DeadLetterList(BaseModel):
    """One page of dead letters, newest first."""

    dead_letters: list[DeadLetter]
    next_cursor: Annotated[str | None, Field(description="Value of `cursor` for the next page; null on the last page.")]

    @classmethod
    def of(cls, listing: Listing) -> "DeadLetterList":
        """Return the response model of a page."""
        return DeadLetterList(
            dead_letters=[DeadLetter.of(letter) for letter in listing.dead_letters],
            next_cursor=write_cursor(listing.after) if listing.after else None,
        )


class Discard(BaseModel):
    """A request to discard a dead letter, with the reason."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: Annotated[str, Field(min_length=1, max_length=MAX_REASON, pattern=PRINTABLE_PATTERN)]


class RedriveMany(BaseModel):
    """Selects the open dead letters to redrive: those that meet all conditions, or all if there is no condition."""

    model_config = ConfigDict(extra="forbid", strict=True)

    cause: list[DeadLetterCause] = []
    owner: str | None = None
    code: Annotated[list[str], Field(description="Codes of the job's last error.")] = []
    worker: str | None = None
    version: str | None = None
    since: Annotated[AwareDatetime | None, Field(description="Only dead letters from this time on.")] = None
    until: Annotated[AwareDatetime | None, Field(description="Only dead letters from before this time.")] = None
    cursor: Annotated[Cursor | None, Field(description="`next_cursor` of the previous answer.")] = None
    cap: Annotated[int, Field(ge=1, le=MAX_REDRIVES, description="Redrive at most so many.")] = MAX_REDRIVES
    dry_run: Annotated[bool, Field(description="Only say what would be redriven.")] = False
    delay: Annotated[
        float, Field(ge=0, le=MAX_DELAY_SECONDS, description="Seconds until the first message is sent.")
    ] = 0.0

    @property
    def wanted(self) -> DeadLetterFilter:
        """The conditions of the request, as a filter for the store."""
        return DeadLetterFilter(
            causes=self.cause,
            owner=self.owner,
            codes=self.code,
            worker=self.worker,
            version=self.version,
            since=self.since,
            until=self.until,
        )


class Skipped(BaseModel):
    """A dead letter that can't be redriven, and the reason."""

    id: DeadLetterId
    code: str
    message: str


class RedriveReport(BaseModel):
    """The result of a request to redrive many dead letters, or of a dry run of the request."""

    dry_run: bool
    matched: Annotated[int, Field(description="Number of open dead letters that the filter selects.")]
    redriven: Annotated[int, Field(description="Number of `ids`.")]
    ids: Annotated[
        list[DeadLetterId], Field(description="The dead letters that were redriven, or would be without `dry_run`.")
    ]
    skipped: list[Skipped]
    left: Annotated[int, Field(description="Number of dead letters that were not reached because of `cap`.")]
    spread_seconds: Annotated[
        float, Field(description="The messages are sent over this time, which begins at `delay`.")
    ]
    next_cursor: Annotated[str | None, Field(description="Value of `cursor` to go on; null if nothing is left.")]

    @classmethod
    def of(cls, report: Report, *, dry_run: bool) -> "RedriveReport":
        """Return the response model of a report."""
        return RedriveReport(
            dry_run=dry_run,
            matched=report.matched,
            redriven=len(report.redriven),
            ids=list(report.redriven),
            skipped=[Skipped(id=one.dead_letter_id, code=one.code, message=one.message) for one in report.skipped],
            left=report.left,
            spread_seconds=report.spread.total_seconds(),
            next_cursor=write_cursor(report.after) if report.after else None,
        )


def write_cursor(page: DeadLetterPage) -> str:
    """Encode the position of the next page in a list of dead letters as a cursor."""
    return write_position(page.created_at, page.id)


def read_cursor(cursor: str | None) -> DeadLetterPage | None:
    """Return the position that `write_cursor` encoded, or None if `cursor` is None.

    Raises:
        Invalid: the cursor was not made by `write_cursor` (`cursor_invalid`).
    """
    return None if cursor is None else DeadLetterPage(*read_position(cursor, _check_id))


def _check_id(value: object) -> int:
    if not isinstance(value, int) or not 0 < value <= MAX_ID:
        raise ValueError(value)
    return value
