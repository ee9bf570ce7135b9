"""The route of server-sent events: sends the state of a video, then every change until the status is terminal."""

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

from anb_api.auth import CurrentCaller
from anb_api.context import CurrentContext
from anb_api.feed import Subscription
from anb_api.problems import documented
from anb_api.schemas import Event
from anb_api.videos import VideoIdInPath
from anb_core.domain.model import EventKind, JobEvent, Record
from anb_core.ports.store import Feed
from anb_core.usecases.follow import BATCH
from anb_core.usecases.visibility import find

HEARTBEAT_SECONDS = 15.0
"""Time between two comments in a silent stream, in seconds.

The comments are needed because many proxies close connections that are silent for a minute.
If the write of a comment fails, the client has disconnected.
"""

HEARTBEAT = b": still here\n\n"

MAX_EVENT_ID = 2**63 - 1

router = APIRouter(prefix="/api/videos", tags=["videos"])

RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events `status`, `progress`, `attempt`, `deleted`, each with an id and an Event as "
        "JSON. The stream stays open until the status is terminal, so read it line by line.",
        # The schema is a string, not an object. For an object, generated clients would wait for the end of the stream.
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {"description": "The client has seen all events and the status is terminal: do not reconnect."},
    **documented(
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.SERVICE_UNAVAILABLE,
    ),
}


class EventStream(StreamingResponse):
    """A streaming response that releases its slot and its subscription at the end, even if no event was sent."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncIterator[bytes], resources: ExitStack, gauge: Gauge) -> None:
        # With these headers, proxies such as nginx neither buffer nor compress the events.
        super().__init__(content, headers={"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"})
        self._resources = resources
        self._gauge = gauge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._resources, self._gauge.track_inprogress():
            await super().__call__(scope, receive, send)


@router.get(
    "/{video_id}/events",
    summary="Follow a video",
    status_code=HTTPStatus.OK,
    response_class=EventStream,
    responses=RESPONSES,
)
async def follow_video(
    context: CurrentContext,
    caller: CurrentCaller,
    video_id: VideoIdInPath,
    last_event_id: Annotated[
        Annotated[int, Field(ge=0, le=MAX_EVENT_ID)] | SkipJsonSchema[None],
        Header(alias="Last-Event-ID", description="Id of the last event received. The stream resumes after it."),
    ] = None,
) -> Response:
    """The first event has the current state. The stream ends after a terminal status, or when the server stops."""
    store = context.store
    await run_in_threadpool(find, store, caller, video_id)
    with ExitStack() as resources:
        resources.enter_context(context.stream_slots.taken(caller.owner))
        subscription = resources.enter_context(closing(await context.hub.subscribe(video_id)))
        missed = await run_in_threadpool(_missed, store, video_id, last_event_id)
        # Read the feed's last event id before the video's row, so that the stream misses no change between the reads.
        position = await run_in_threadpool(store.last_event_id)
        record = await run_in_threadpool(find, store, caller, video_id)
        if last_event_id is not None and not missed and record.job.status.terminal:
            return Response(status_code=HTTPStatus.NO_CONTENT)
        messages = _messages(missed, record, position, subscription)
        return EventStream(messages, resources.pop_all(), context.metrics.streams)


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
