"""The routes for operating the service: liveness, readiness and metrics."""

from http import HTTPStatus

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from anb_api.context import CurrentContext
from anb_api.schemas import Check, Health, Readiness

router = APIRouter(tags=["operations"])


@router.get("/healthz", summary="Is the process alive?")
async def check_health() -> Health:
    """Succeeds as long as the event loop of the process runs."""
    return Health()


@router.get(
    "/readyz",
    summary="Can requests be served?",
    responses={HTTPStatus.SERVICE_UNAVAILABLE: {"model": Readiness, "description": "A required part does not answer."}},
)
async def check_readiness(context: CurrentContext, response: Response) -> Readiness:
    """The API is ready if database and bucket respond. Without the queue, uploads are stored and processed later."""
    answers = await context.checks.ask()
    ready = all(answer.detail is None for answer in answers if answer.required)
    response.status_code = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    checks = {
        answer.part: Check(ok=answer.detail is None, required=answer.required, detail=answer.detail)
        for answer in answers
    }
    return Readiness(ready=ready, checks=checks)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={HTTPStatus.OK: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def read_metrics(context: CurrentContext) -> Response:
    """The metrics in Prometheus' text format."""
    return Response(generate_latest(context.metrics.registry), media_type=CONTENT_TYPE_LATEST)
