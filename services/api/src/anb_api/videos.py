"""The routes under /api/videos."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from anb_api.auth import CurrentCaller
from anb_api.body import Body
from anb_api.context import CurrentContext, Prefix
from anb_api.multipart import FILE, UploadForm, boundary_of, check_encoding, check_length, store_form
from anb_api.problems import documented
from anb_api.schemas import (
    PRINTABLE_PATTERN,
    Explanation,
    Receipt,
    Video,
    VideoDetail,
    VideoList,
    read_cursor,
    write_cursor,
)
from anb_core.domain.model import Record, Scope
from anb_core.domain.naming import IDEMPOTENCY_KEY_PATTERN, MAX_TITLE, VIDEO_ID_PATTERN
from anb_core.domain.schedule import PROCESS_AFTER_PATTERN
from anb_core.domain.status import Status
from anb_core.usecases import commands
from anb_core.usecases.reading import browse, download_url, why
from anb_core.usecases.visibility import find_with_history

PAGE = 50
MAX_PAGE = 100
MAX_CURSOR = 300
CURSOR_FORMAT = "anb-cursor"

router = APIRouter(
    prefix="/api/videos",
    tags=["videos"],
    responses=documented(HTTPStatus.UNAUTHORIZED, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE),
)

VideoIdInPath = Annotated[str, Path(pattern=VIDEO_ID_PATTERN, description="The video's id.")]

NOT_FOUND = documented(HTTPStatus.NOT_FOUND)
NOT_NOW = documented(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)

UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["title", FILE],
                    "additionalProperties": False,
                    "properties": {
                        "title": {
                            "type": "string",
                            "minLength": 1,
                            "maxLength": MAX_TITLE,
                            "pattern": PRINTABLE_PATTERN,
                        },
                        "edit": {"$ref": "#/components/schemas/EditSpec"},
                        "process_after": {
                            "description": "Do not begin the work before this time (with an offset), or before this "
                            "number of seconds has passed since the upload. At most 7 days; a time in the past "
                            "means now.",
                            "type": "string",
                            "pattern": rf"{PROCESS_AFTER_PATTERN}|^ *$",
                        },
                        # List the file last, because generated clients send the fields in the order of the schema.
                        FILE: {"type": "string", "format": "binary", "description": "The video. Put it last."},
                    },
                },
            }
        },
    }
}
"""The OpenAPI schema of the upload form. FastAPI would read the whole body first if the route declared the form."""


@router.post(
    "/upload",
    status_code=HTTPStatus.ACCEPTED,
    summary="Upload a video",
    openapi_extra=UPLOAD_BODY,
    responses={
        HTTPStatus.ACCEPTED: {
            "description": "The video is stored and will be processed.",
            "headers": {"Location": {"schema": {"type": "string"}, "description": "The video."}},
        }
    }
    | documented(
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INSUFFICIENT_STORAGE,
    ),
)
async def upload_video(
    request: Request,
    context: CurrentContext,
    caller: CurrentCaller,
    *,
    prefix: Prefix,
    response: Response,
    idempotency_key: Annotated[
        Annotated[str, Field(pattern=IDEMPOTENCY_KEY_PATTERN)] | SkipJsonSchema[None],
        Header(alias="Idempotency-Key", description="Makes it safe to repeat the same upload."),
    ] = None,
) -> Receipt:
    """Stores the uploaded file. A bad form is refused at once. A bad file is reported later, as the video's error."""
    check_encoding("The body", *request.headers.get("content-encoding", "").split(","))
    boundary = boundary_of(request.headers.get("content-type"))
    max_bytes = context.uploads.max_bytes
    length = request.headers.get("content-length")
    size = None if length is None else int(length)
    check_length(size or 0, max_bytes)

    def receive(pieces: Iterator[bytes]) -> Record:
        form = UploadForm(pieces, boundary, max_file_bytes=max_bytes)
        return store_form(context.uploads, caller, form, size=size, idempotency_key=idempotency_key)

    with context.metrics.counting_refused_uploads():
        await run_in_threadpool(context.uploads.check_limits, caller, size=size, idempotency_key=idempotency_key)
        with context.upload_slots.taken(caller.owner), context.metrics.uploads.track_inprogress():
            record = await Body(request.receive).feed(context.upload_threads, receive)
    receipt = Receipt.of(record, prefix)
    response.headers["Location"] = receipt.links.self
    return receipt


@router.get("", summary="List videos")
def list_videos(
    context: CurrentContext,
    caller: CurrentCaller,
    *,
    prefix: Prefix,
    status: Annotated[
        list[Status] | SkipJsonSchema[None], Query(description="Only videos with one of these statuses.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Maximum number of videos per page.")] = PAGE,
    cursor: Annotated[
        Annotated[str, Field(max_length=MAX_CURSOR, json_schema_extra={"format": CURSOR_FORMAT})]
        | SkipJsonSchema[None],
        Query(description="`next_cursor` of the previous page."),
    ] = None,
) -> VideoList:
    """Lists videos, newest first. A token of scope `ops` sees the videos of all owners."""
    after = read_cursor(cursor) if cursor is not None else None
    listing = browse(context.store, caller, statuses=status or (), after=after, limit=limit)
    return VideoList(
        videos=[Video.of(record, prefix) for record in listing.records],
        next_cursor=write_cursor(listing.after) if listing.after else None,
    )


@router.get("/{video_id}", summary="Show a video", responses=NOT_FOUND)
def show_video(
    context: CurrentContext,
    caller: CurrentCaller,
    prefix: Prefix,
    video_id: VideoIdInPath,
    *,
    detail: Annotated[
        bool, Query(description="Show technical details in the errors of attempts. Only for tokens of scope `ops`.")
    ] = False,
) -> VideoDetail:
    """The video with its job and all attempts."""
    record, attempts = find_with_history(context.store, caller, video_id)
    return VideoDetail.with_history(record, attempts, prefix, detailed=detail and caller.scope is Scope.OPS)


@router.get("/{video_id}/why", summary="Explain where a video is", responses=NOT_FOUND)
def explain_video(context: CurrentContext, caller: CurrentCaller, video_id: VideoIdInPath) -> Explanation:
    """Where the video is and what it waits for, in sentences for people. Programs use the fields of the video."""
    record, sentences = why(context.store, caller, video_id)
    return Explanation(video_id=video_id, status=record.job.status, sentences=list(sentences))


@router.get(
    "/{video_id}/download",
    summary="Download the finished video",
    status_code=HTTPStatus.TEMPORARY_REDIRECT,
    response_class=RedirectResponse,
    responses=NOT_NOW,
)
def download_video(context: CurrentContext, caller: CurrentCaller, video_id: VideoIdInPath) -> RedirectResponse:
    """Redirects to a URL in the bucket's storage. The URL needs no token, and expires."""
    url = download_url(
        context.store, context.objects, caller, video_id, lifetime=context.settings.download_url_lifetime
    )
    return RedirectResponse(url, HTTPStatus.TEMPORARY_REDIRECT)


@router.post("/{video_id}/cancel", summary="Cancel a video", responses=NOT_NOW)
def cancel_video(context: CurrentContext, caller: CurrentCaller, prefix: Prefix, video_id: VideoIdInPath) -> Video:
    """Cancels a job whose status is not terminal."""
    return Video.of(commands.cancel(context.store, caller, video_id), prefix)


@router.post("/{video_id}/retry", summary="Retry a video", status_code=HTTPStatus.ACCEPTED, responses=NOT_NOW)
def retry_video(context: CurrentContext, caller: CurrentCaller, prefix: Prefix, video_id: VideoIdInPath) -> Video:
    """Starts a failed, dead-lettered or cancelled job again, and sets all its counters to 0."""
    record = commands.retry(context.store, context.objects, caller, video_id, wake_relay=context.relay.wake)
    return Video.of(record, prefix)


@router.delete("/{video_id}", summary="Delete a video", status_code=HTTPStatus.NO_CONTENT, responses=NOT_FOUND)
def delete_video(context: CurrentContext, caller: CurrentCaller, video_id: VideoIdInPath) -> None:
    """Cancels the job and removes the video from the API at once. The video's files are deleted a day later."""
    commands.delete(context.store, caller, video_id)
