"""Builds the FastAPI application: routes, error handlers, and the background tasks of the process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.concurrency import contextmanager_in_threadpool
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from anb_api import adoptions, brokers, dead_letters, events, health, problems, reconciliations, videos
from anb_api.adoptions import AdoptObjects
from anb_api.checks import Checks
from anb_api.context import Context
from anb_api.dead_letter_schemas import Discard, RedriveMany
from anb_api.feed import Hub
from anb_api.metrics import Metrics
from anb_api.middleware import RequestMiddleware
from anb_api.problems import ProblemDetails
from anb_api.reconciliations import ReconcileBucket
from anb_api.schemas import Event
from anb_api.settings import ApiSettings
from anb_core.adapters.system import SystemRuntime, new_id
from anb_core.bootstrap import DeadLetterLoops, make_adopt_many, make_dead_letter_loops, make_sweep, make_uploads
from anb_core.domain.edit import EditSpec
from anb_core.ports.alerts import Alerts
from anb_core.ports.objects import Objects
from anb_core.ports.queue import Queue, QueueReceiver
from anb_core.ports.runtime import Runtime
from anb_core.ports.store import Store
from anb_core.usecases.background import background
from anb_core.usecases.reconcile import Reconcile
from anb_core.usecases.relay import Relay

REQUEST_THREADS = 12
"""Maximum number of requests that use the database at the same time. Other requests wait for a thread."""

ROUTERS = (
    videos.router,
    events.router,
    dead_letters.router,
    brokers.router,
    adoptions.router,
    reconciliations.router,
    health.router,
)

DESCRIPTION = """Upload a video; it is trimmed, resized to 720p, watermarked and given an intro and an outro.

Every error is `application/problem+json` with a stable `code`."""


def create_app(
    settings: ApiSettings,
    store: Store,
    objects: Objects,
    queue: Queue,
    *,
    old_queue: Queue | None = None,
    dead_letter_queue: QueueReceiver | None = None,
    alerts: Alerts | None = None,
) -> FastAPI:
    """Return the FastAPI app. The caller must close the store, the bucket, the queues and the alerts.

    If the settings say that the API handles dead letters, the app announces them. It also receives the messages of
    `dead_letter_queue`, unless this is None.
    """
    runtime = SystemRuntime()
    relay = Relay(store, queue, bucket=objects.bucket, runtime=runtime, queue_limit=settings.queue_limit)
    metrics = Metrics(store)
    queues = [queue, old_queue] if old_queue else [queue]
    handling = None
    if settings.handle_dead_letters:
        handling = make_dead_letter_loops(
            settings, store, dead_letter_queue, alerts, metrics=metrics.dead_letters, runtime=runtime
        )
    context = Context(
        settings=settings,
        store=store,
        objects=objects,
        queues=queues,
        relay=relay,
        sweep=make_sweep(settings, store, objects, queues, wake_relay=relay.wake, runtime=runtime),
        uploads=make_uploads(settings, store, objects, wake_relay=relay.wake, runtime=runtime),
        adopt_many=make_adopt_many(settings, store, objects, limits=settings.limits, wake_relay=relay.wake),
        reconcile=Reconcile(store=store, objects=objects, wake_relay=relay.wake, new_id=new_id),
        metrics=metrics,
        hub=Hub(store, runtime),
        checks=Checks(store, objects, queue, handling.outage if handling else None),
    )
    app = FastAPI(
        title="ANB Video",
        version="1",
        description=DESCRIPTION,
        lifespan=partial(_lifespan, runtime=runtime, handling=handling),
        # Turn off FastAPI's documentation pages, because the pages load scripts from other servers.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        generate_unique_id_function=_operation_id,
        # Do not redirect /api/videos/ to /api/videos, because a redirect would lose the body of an upload.
        redirect_slashes=False,
    )
    app.state.context = context
    app.add_middleware(RequestMiddleware, metrics=context.metrics, prefix=settings.prefix)
    for router in ROUTERS:
        app.include_router(router)
    app.openapi = _with_schemas(app.openapi)  # type: ignore[method-assign]
    app.add_route("/openapi.json", _schema, methods=["GET"], include_in_schema=False)
    problems.install(app, [*(route for router in ROUTERS for route in router.routes), *app.routes])
    return app


def end_streams(app: FastAPI) -> None:
    """End all event streams, so that the server can stop. Clients then reconnect to another server."""
    context: Context = app.state.context
    context.hub.close()


@asynccontextmanager
async def _lifespan(app: FastAPI, *, runtime: Runtime, handling: DeadLetterLoops | None) -> AsyncIterator[None]:
    context: Context = app.state.context
    anyio.to_thread.current_default_thread_limiter().total_tokens = REQUEST_THREADS
    loops = {"relay": context.relay.run, "sweep": context.sweep.run, **(handling.loops if handling else {})}
    async with contextmanager_in_threadpool(background(runtime, loops, wake=context.relay.wake)):
        reader = asyncio.create_task(context.hub.run(), name="feed")
        try:
            yield
        finally:
            context.hub.close()
            await reader
            # Wait for the threads of interrupted uploads, because they delete the incomplete objects.
            await asyncio.to_thread(context.upload_threads.shutdown)
            await asyncio.to_thread(context.bulk_threads.shutdown)
            context.checks.close()


def _operation_id(route: APIRoute) -> str:
    """Return the name of the route's function as operation id. Client generators use this id as a function name."""
    return route.name


async def _schema(request: Request) -> JSONResponse:
    return JSONResponse({**request.app.openapi(), "servers": [{"url": request.state.prefix or "/"}]})


def _with_schemas(openapi: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Add the models that FastAPI leaves out of the schema. Only handwritten definitions refer to these models."""

    def complete() -> dict[str, Any]:
        schema = openapi()
        models = schema["components"]["schemas"]
        for model in (ProblemDetails, EditSpec, Event, Discard, RedriveMany, AdoptObjects, ReconcileBucket):
            definition = model.model_json_schema(ref_template="#/components/schemas/{model}")
            models.update(definition.pop("$defs", {}))
            models.setdefault(model.__name__, definition)
        # Remove the models of FastAPI's own 422 response, which problems.install() has replaced.
        models.pop("HTTPValidationError", None)
        models.pop("ValidationError", None)
        return schema

    return complete
