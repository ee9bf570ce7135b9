"""The routes for those who run the API: is it alive, is it ready, what does it count."""

from http import HTTPStatus

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from anb_api.context import Here
from anb_api.schemas import Check, Health, Readiness

router = APIRouter(tags=["operations"])


@router.get("/healthz", summary="Is the process alive?")
async def check_health() -> Health:
    """Answered by the event loop itself, so it fails exactly when that is stuck."""
    return Health()


@router.get(
    "/readyz",
    summary="Can requests be served?",
    responses={HTTPStatus.SERVICE_UNAVAILABLE: {"model": Readiness, "description": "A required part does not answer."}},
)
async def check_readiness(here: Here, response: Response) -> Readiness:
    """Database and bucket must answer. Without the queue work is delayed, but uploads are taken all the same."""
    answers = await here.checks.ask()
    ready = all(answer.detail is None for answer in answers if answer.required)
    response.status_code = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    checks = {
        answer.part: Check(ok=answer.detail is None, required=answer.required, detail=answer.detail)
        for answer in answers
    }
    return Readiness(ready=ready, checks=checks)


@router.get(
    "/metrics",
    summary="Numbers for Prometheus",
    response_class=Response,
    responses={HTTPStatus.OK: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def read_metrics(here: Here) -> Response:
    """In Prometheus' text format."""
    return Response(generate_latest(here.metrics.registry), media_type=CONTENT_TYPE_LATEST)
