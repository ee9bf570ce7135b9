"""The routes for those who run the API: is it alive, is it ready, what does it count."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from typing import Final

import structlog
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from anb_api.context import Here
from anb_api.schemas import Check, Health, Readiness
from anb_core.domain.errors import AnbError

PATIENCE_SECONDS: Final = 3.0
"""Of a readiness check: whoever asks gives up soon after."""

router = APIRouter(tags=["operations"])

_log = structlog.get_logger(__name__)


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> Health:
    """Answered by the event loop itself, so it fails exactly when that is stuck."""
    return Health()


@router.get(
    "/readyz",
    summary="Can requests be served?",
    responses={HTTPStatus.SERVICE_UNAVAILABLE: {"model": Readiness, "description": "A required part does not answer."}},
)
def readyz(here: Here, response: Response) -> Readiness:
    """Database and bucket must answer. Without the queue work is delayed, but uploads are taken all the same."""
    core = here.core
    # `ensure`, so that where creating is allowed an emulator that forgot its bucket is reminded of it.
    parts = {"database": core.store.ping, "bucket": core.objects.ensure, "queue": core.queue.ping}
    checks = {
        part: Check(ok=detail is None, required=part != "queue", detail=detail)
        for part, detail in _ask(here.check_threads, parts).items()
    }
    ready = all(check.ok for check in checks.values() if check.required)
    response.status_code = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    return Readiness(ready=ready, checks=checks)


@router.get(
    "/metrics",
    summary="Numbers for Prometheus",
    response_class=Response,
    responses={HTTPStatus.OK: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(here: Here) -> Response:
    """In Prometheus' text format."""
    return Response(generate_latest(here.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _ask(threads: ThreadPoolExecutor, parts: dict[str, Callable[[], None]]) -> dict[str, str | None]:
    """Ask all parts at once; for each, None or a sentence for anybody to read: the log says more."""
    asked = {part: threads.submit(ping) for part, ping in parts.items()}
    return {part: _answer(part, answer) for part, answer in asked.items()}


def _answer(part: str, answer: Future[None]) -> str | None:
    try:
        answer.result(PATIENCE_SECONDS)
    except (AnbError, TimeoutError) as error:
        _log.warning("not ready", part=part, reason=str(error) or f"no answer within {PATIENCE_SECONDS} s")
        return f"The {part} does not answer."
    return None
