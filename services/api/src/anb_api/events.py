"""The route of server-sent events: how a video stands, then every change, until nothing more happens to it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, closing
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse
from prometheus_client import Gauge
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from anb_api.auth import CallerHere
from anb_api.context import Here
from anb_api.feed import Subscription
from anb_api.problems import documented
from anb_api.schemas import Event
from anb_api.videos import VideoIdInPath
from anb_core.domain.model import EventKind, JobEvent, Record
from anb_core.ports.store import Feed
from anb_core.usecases.follow import BATCH
from anb_core.usecases.visibility import find

HEARTBEAT_SECONDS = 15.0
"""Proxies cut connections that are silent for a minute, and only by writing do we learn that a client is gone."""

HEARTBEAT = b": still here\n\n"

MAX_EVENT_ID = 2**63 - 1

router = APIRouter(prefix="/api/videos", tags=["videos"])

RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events `status`, `progress`, `attempt`, `deleted`, each with an id and an Event as "
        "JSON. They come for as long as the video is worked on, so read them line by line.",
        # Text, and not an object: clients that are made from this would wait for the end, and parse all of it as JSON.
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {"description": "All was told, and nothing more happens: do not ask again."},
    **documented(
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
}


class EventStream(StreamingResponse):
    """Frees what it holds however it ends, even before its first event."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncIterator[bytes], holds: ExitStack, gauge: Gauge) -> None:
        # Nginx would collect events before it passes them on, and who compresses an answer does so too.
        super().__init__(content, headers={"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"})
        self._holds = holds
        self._gauge = gauge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._holds, self._gauge.track_inprogress():
            await super().__call__(scope, receive, send)


@router.get(
    "/{video_id}/events",
    summary="Follow a video",
    status_code=HTTPStatus.OK,
    response_class=EventStream,
    responses=RESPONSES,
)
async def follow_video(
    here: Here,
    caller: CallerHere,
    video_id: VideoIdInPath,
    last_event_id: Annotated[
        Annotated[int, Field(ge=0, le=MAX_EVENT_ID)] | SkipJsonSchema[None],
        Header(alias="Last-Event-ID", description="The last id that was seen: resumes after it."),
    ] = None,
) -> Response:
    """The first event tells how things stand; the stream ends after a terminal status, and when the server stops."""
    store = here.store
    await run_in_threadpool(find, store, caller, video_id)
    with ExitStack() as holds:
        holds.enter_context(here.stream_slots.taken(caller.owner))
        subscription = holds.enter_context(closing(await here.hub.subscribe(video_id)))
        missed = await run_in_threadpool(_missed, store, video_id, last_event_id)
        # In this order: what changes after the row was read comes with a later id.
        position = await run_in_threadpool(store.last_event_id)
        record = await run_in_threadpool(find, store, caller, video_id)
        if last_event_id is not None and not missed and record.job.status.terminal:
            return Response(status_code=HTTPStatus.NO_CONTENT)
        messages = _messages(missed, record, position, subscription)
        return EventStream(messages, holds.pop_all(), here.metrics.streams)


def _missed(store: Feed, video_id: str, last_event_id: int | None) -> Sequence[JobEvent]:
    if last_event_id is None:
        return ()
    missed: list[JobEvent] = []
    while True:
        batch = store.events_after(missed[-1].id if missed else last_event_id, video_id=video_id, limit=BATCH)
        missed += batch
        if len(batch) < BATCH:
            return missed


async def _messages(
    missed: Sequence[JobEvent], record: Record, position: int, subscription: Subscription
) -> AsyncIterator[bytes]:
    for event in missed:
        yield _message(event.id, event.kind, Event.of(event))
    version = max((event.version for event in missed), default=0)
    if record.job.version > version:
        version = record.job.version
        yield _message(position, EventKind.STATUS, Event.snapshot(record))
    ended = record.job.status.terminal
    while not (ended or subscription.ended):
        change = await subscription.next(HEARTBEAT_SECONDS)
        if change is None:
            yield HEARTBEAT
        elif change.version > version:
            yield _message(change.id, change.kind, Event.of(change))
            ended = change.status.terminal or change.kind is EventKind.DELETED


def _message(event_id: int, kind: EventKind, data: Event) -> bytes:
    return f"id: {event_id}\nevent: {kind}\ndata: {data.model_dump_json()}\n\n".encode()
