"""Error responses: RFC 9457 problem details with a stable `code`, and the mapping from exceptions to HTTP statuses."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route

from anb_core.domain import validation
from anb_core.domain.codes import Code
from anb_core.domain.errors import (
    AnbError,
    Conflict,
    Forbidden,
    Full,
    Held,
    Invalid,
    LimitReached,
    NotFound,
    Refused,
    TooLarge,
    Unavailable,
    Unreadable,
)

MEDIA_TYPE = "application/problem+json"

RETRY_AFTER = "5"
"""Value of the Retry-After header in responses with status 503, in seconds."""

_log = structlog.get_logger(__name__)


class Unauthenticated(Refused):
    """The token is missing or not valid."""


class Malformed(Invalid):
    """The request can't be parsed."""


class UnsupportedMedia(Invalid):
    """The media type or encoding of the body is not supported."""


class Stalled(Refused):
    """The client sent its request too slowly."""


class Busy(Refused):
    """This process has no free slot for the request."""


STATUSES: Mapping[type[AnbError], HTTPStatus] = {
    Malformed: HTTPStatus.BAD_REQUEST,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Stalled: HTTPStatus.REQUEST_TIMEOUT,
    Conflict: HTTPStatus.CONFLICT,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMedia: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    LimitReached: HTTPStatus.TOO_MANY_REQUESTS,
    Busy: HTTPStatus.SERVICE_UNAVAILABLE,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    Full: HTTPStatus.INSUFFICIENT_STORAGE,
    # A retry may succeed: during an upgrade, a process of the newer version can read the row.
    Unreadable: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""HTTP status by exception class. An unlisted class has the status of its nearest listed base class, or else 500."""


class ProblemDetails(BaseModel):
    """The reason why a request failed, in the format of RFC 9457."""

    type: Annotated[str, Field(description="Always `about:blank`. Use `code` to distinguish problems.")] = "about:blank"
    title: Annotated[str, Field(description="The HTTP status in words.")]
    status: Annotated[int, Field(description="The HTTP status.", ge=400, le=599)]
    code: Annotated[str, Field(description="A stable error code for programs.", pattern="^[a-z][a-z0-9_]*$")]
    detail: Annotated[str, Field(description="One or two sentences for people: what was wrong and what to do.")]


def status_of(error: AnbError) -> HTTPStatus:
    """Return the HTTP status for an error."""
    for kind in type(error).__mro__:
        if kind in STATUSES:
            return STATUSES[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def problem(status: HTTPStatus, code: Code, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with problem details."""
    body = ProblemDetails(title=status.phrase, status=status, code=code, detail=detail)
    return Response(body.model_dump_json(), status_code=status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def of_error(error: AnbError) -> Response:
    """Return the response for an error of the core."""
    headers: dict[str, str] = {}
    detail = error.message
    if isinstance(error, Unavailable):
        # Log the message, but do not send it to the client, because it may contain internal host and user names.
        _log.warning("request not served", part=error.part, reason=error.message)
        detail = f"The {error.part} does not answer; try again in a moment."
        if isinstance(error, Full):
            detail = f"The {error.part} has no space left, so nothing was stored: free space on its disk, then retry."
    if isinstance(error, Unreadable):
        _log.warning("request not served", reason=error.message, because=str(error.__cause__))
    if status_of(error) is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = RETRY_AFTER
    if isinstance(error, Held | LimitReached):
        headers["Retry-After"] = str(math.ceil(error.wait.total_seconds()))
    if isinstance(error, Unauthenticated):
        reason = ', error="invalid_token"' if error.code == "token_invalid" else ""
        headers["WWW-Authenticate"] = f'Bearer realm="anb-video"{reason}'
    return problem(status_of(error), error.code, detail, headers)


def internal_error() -> Response:
    """Return the response for an unexpected exception. Only the log has the exception's details."""
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal_error",
        "The server had an unexpected error. The server's log has the details.",
    )


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Register handlers that turn errors into problem details. `routes` has all routes, the specific routes first."""

    def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, AnbError)  # noqa: S101 - registered for it only
        return of_error(error)

    def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it only
        return problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, "request_invalid", validation.describe(_of_parameters(error.errors()))
        )

    def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for it only
        status = HTTPStatus(error.status_code)
        match status:
            case HTTPStatus.NOT_FOUND if request.scope["path"] == "*":
                return _options(_methods(routes))
            case HTTPStatus.NOT_FOUND:
                return problem(status, "route_not_found", f"There is no route {request.url.path}.")
            case HTTPStatus.METHOD_NOT_ALLOWED:
                methods = _methods(_same_path(routes, request))
                if request.method == "OPTIONS":
                    return _options(methods)
                allowed = ", ".join(methods)
                detail = f"{request.url.path} does not allow {request.method}, only {allowed}."
                return problem(status, "method_not_allowed", detail, {"Allow": allowed})
        # Use the name of the HTTP status as the code, because Starlette's errors have no code.
        return problem(status, cast("Code", status.name.lower()), error.detail, error.headers)

    app.add_exception_handler(AnbError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)


def documented(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of problem responses with the given statuses."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {int(status): {"description": status.phrase, "content": content} for status in statuses}


def _options(methods: Iterable[str]) -> Response:
    return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": ", ".join(methods)})


def _same_path(routes: Sequence[BaseRoute], request: Request) -> list[Route]:
    """Return all routes that match the path of the request. Several routes with different methods may share a path."""
    matching = [
        route for route in routes if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
    ]
    return [route for route in matching if route.path == matching[0].path]


def _methods(routes: Iterable[BaseRoute]) -> list[str]:
    methods = {method for route in routes if isinstance(route, Route) for method in route.methods or ()}
    # HEAD is allowed wherever GET is allowed, because RequestMiddleware replaces HEAD with GET.
    return sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set()))


def _of_parameters(errors: Sequence[Any]) -> Iterator[Any]:
    """Yield one error for each invalid parameter or list element.

    For one invalid optional parameter, pydantic reports two errors: a wrong type, and a value that is not None.
    """
    reported: set[object] = set()
    for error in errors:
        place, rest = error["loc"][:2], error["loc"][2:]
        path = (*place, *(step for step in rest if isinstance(step, int)))
        if error["type"] != "none_required" and path not in reported:
            reported.add(path)
            yield error | {"loc": path}
