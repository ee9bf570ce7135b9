"""The routes under /api/dead-letters. All of them need a token of scope `ops`."""

import re
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import AwareDatetime, BeforeValidator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticKnownError

from anb_api.auth import CurrentCaller
from anb_api.context import CurrentContext, Prefix
from anb_api.dead_letter_schemas import (
    INT64,
    MAX_ID,
    Cursor,
    DeadLetter,
    DeadLetterDetail,
    DeadLetterList,
    Discard,
    RedriveMany,
    RedriveReport,
    read_cursor,
)
from anb_api.json_body import BODY_REFUSED, documented_body, json_body
from anb_api.problems import documented
from anb_api.schemas import Video
from anb_api.videos import MAX_PAGE, NOT_FOUND, NOT_NOW, PAGE
from anb_core.domain.dead_letters import DeadLetterFilter, State
from anb_core.domain.model import DeadLetterCause
from anb_core.usecases import dead_letters

router = APIRouter(
    prefix="/api/dead-letters",
    tags=["dead letters"],
    responses=documented(
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
)


def _not_a_number(value: str) -> str:
    # Refuse a plain number, which pydantic would accept as seconds since 1970.
    if not re.match(r"\d{4}-", value):
        raise PydanticKnownError("datetime_type")
    return value


TimeInQuery = Annotated[AwareDatetime, BeforeValidator(_not_a_number)]

IdInPath = Annotated[int, Path(ge=1, le=MAX_ID, description="The dead letter's id.", json_schema_extra=INT64)]


@router.get("", summary="List dead letters")
def list_dead_letters(
    context: CurrentContext,
    caller: CurrentCaller,
    *,
    state: Annotated[State, Query(description="Open ones are those that a person has to handle.")] = "open",
    cause: Annotated[list[DeadLetterCause] | SkipJsonSchema[None], Query(description="One of these causes.")] = None,
    owner: Annotated[str | SkipJsonSchema[None], Query(description="Owner of the video.")] = None,
    code: Annotated[
        list[str] | SkipJsonSchema[None], Query(description="The job's last error has one of these codes.")
    ] = None,
    worker: Annotated[str | SkipJsonSchema[None], Query(description="Worker of the last attempt.")] = None,
    version: Annotated[
        str | SkipJsonSchema[None], Query(description="Version of the program that made the last attempt.")
    ] = None,
    since: Annotated[
        TimeInQuery | SkipJsonSchema[None], Query(description="Only dead letters from this time on.")
    ] = None,
    until: Annotated[
        TimeInQuery | SkipJsonSchema[None], Query(description="Only dead letters from before this time.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Maximum number of dead letters per page.")] = PAGE,
    cursor: Annotated[Cursor | SkipJsonSchema[None], Query(description="`next_cursor` of the previous page.")] = None,
) -> DeadLetterList:
    """Lists dead letters, newest first, without the bodies of their messages. All conditions must hold."""
    wanted = DeadLetterFilter(
        causes=cause or (),
        owner=owner,
        codes=code or (),
        worker=worker,
        version=version,
        since=since,
        until=until,
        state=state,
    )
    return DeadLetterList.of(dead_letters.browse(context.store, caller, wanted, after=read_cursor(cursor), limit=limit))


@router.post(
    "/redrive",
    summary="Redrive many dead letters",
    openapi_extra=documented_body(RedriveMany),
    responses=BODY_REFUSED,
)
def redrive_dead_letters(
    context: CurrentContext, caller: CurrentCaller, order: Annotated[RedriveMany, Depends(json_body(RedriveMany))]
) -> RedriveReport:
    """Retries the jobs of open dead letters, newest first. At most 50 messages a second are sent.

    If the answer is an error, repeat the request. Dead letters that were already redriven are no longer open.
    """
    report = dead_letters.redrive_many(
        context.store,
        context.objects,
        caller,
        order.wanted,
        cap=order.cap,
        dry_run=order.dry_run,
        delay=timedelta(seconds=order.delay),
        after=read_cursor(order.cursor),
        each=context.bulk_threads.map,
        wake_relay=context.relay.wake,
    )
    return RedriveReport.of(report, dry_run=order.dry_run)


@router.get("/{dead_letter_id:int}", summary="Show a dead letter", responses=NOT_FOUND)
def show_dead_letter(context: CurrentContext, caller: CurrentCaller, dead_letter_id: IdInPath) -> DeadLetterDetail:
    """A dead letter, the body of its message, and the attempts that led to the dead letter."""
    return DeadLetterDetail.with_attempts(*dead_letters.show(context.store, caller, dead_letter_id))


@router.post(
    "/{dead_letter_id:int}/redrive",
    summary="Redrive a dead letter",
    status_code=HTTPStatus.ACCEPTED,
    responses=NOT_NOW,
)
def redrive_dead_letter(
    context: CurrentContext, caller: CurrentCaller, prefix: Prefix, dead_letter_id: IdInPath
) -> Video:
    """Retries the job of an open dead letter, and sets all its counters to 0."""
    record = dead_letters.redrive(context.store, context.objects, caller, dead_letter_id, wake_relay=context.relay.wake)
    return Video.of(record, prefix)


@router.post(
    "/{dead_letter_id:int}/discard",
    summary="Discard a dead letter",
    openapi_extra=documented_body(Discard),
    responses=BODY_REFUSED | NOT_NOW,
)
def discard_dead_letter(
    context: CurrentContext,
    caller: CurrentCaller,
    dead_letter_id: IdInPath,
    order: Annotated[Discard, Depends(json_body(Discard))],
) -> DeadLetter:
    """Resolves an open dead letter without a retry. The job keeps its status."""
    return DeadLetter.of(dead_letters.discard(context.store, caller, dead_letter_id, reason=order.reason))
