"""Errors on the wire: RFC 9457 problem details with a stable `code`; the one mapping from errors to statuses."""

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
    Full,
    Held,
    Invalid,
    NotFound,
    Refused,
    TooLarge,
    Unavailable,
    Unreadable,
)

MEDIA_TYPE = "application/problem+json"

RETRY_AFTER = "5"
"""Seconds after which it is worth asking a part again that did not answer."""


_log = structlog.get_logger(__name__)


class Unauthenticated(Refused):
    """The caller did not say, or not credibly, who they are."""


class Malformed(Invalid):
    """The request can't even be read."""


class UnsupportedMedia(Invalid):
    """The body is of another kind than this route takes."""


class Stalled(Refused):
    """The client stopped sending in the middle of its request."""


class Busy(Refused):
    """This process has as much to do as it can."""


STATUSES: Mapping[type[AnbError], HTTPStatus] = {
    Malformed: HTTPStatus.BAD_REQUEST,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    NotFound: HTTPStatus.NOT_FOUND,
    Stalled: HTTPStatus.REQUEST_TIMEOUT,
    Conflict: HTTPStatus.CONFLICT,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UnsupportedMedia: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    Busy: HTTPStatus.SERVICE_UNAVAILABLE,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    Full: HTTPStatus.INSUFFICIENT_STORAGE,
    # By a newer process, while the system is upgraded, it may be served.
    Unreadable: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""By class; one that is not listed goes by the nearest it derives from, and all others are our own fault (500)."""


class ProblemDetails(BaseModel):
    """Why a request was not done, after RFC 9457."""

    type: Annotated[str, Field(description="Always `about:blank`: `code` tells one problem from another.")] = (
        "about:blank"
    )
    title: Annotated[str, Field(description="The HTTP status in words.")]
    status: Annotated[int, Field(description="The HTTP status.", ge=400, le=599)]
    code: Annotated[str, Field(description="A stable word for programs.", pattern="^[a-z][a-z0-9_]*$")]
    detail: Annotated[str, Field(description="One or two sentences for people: what was wrong, and what to do.")]


def status_of(error: AnbError) -> HTTPStatus:
    """The HTTP status that tells of an error."""
    for kind in type(error).__mro__:
        if kind in STATUSES:
            return STATUSES[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def problem(status: HTTPStatus, code: Code, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a request that was not done."""
    body = ProblemDetails(title=status.phrase, status=status, code=code, detail=detail)
    return Response(body.model_dump_json(), status_code=status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def of_error(error: AnbError) -> Response:
    """The answer that tells of one of our errors."""
    headers: dict[str, str] = {}
    detail = error.message
    if isinstance(error, Unavailable):
        # What it says names hosts and users: that is for the log, and anybody may be asking.
        _log.warning("request not served", part=error.part, reason=error.message)
        detail = f"The {error.part} does not answer; try again in a moment."
        if isinstance(error, Full):
            detail = f"The {error.part} has no room left, so nothing was kept: make room on its disk, then try again."
    if isinstance(error, Unreadable):
        _log.warning("request not served", reason=error.message, because=str(error.__cause__))
    if status_of(error) is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = RETRY_AFTER
    if isinstance(error, Held):
        headers["Retry-After"] = str(math.ceil(error.wait.total_seconds()))
    if isinstance(error, Unauthenticated):
        reason = ', error="invalid_token"' if error.code == "token_invalid" else ""
        headers["WWW-Authenticate"] = f'Bearer realm="anb-video"{reason}'
    return problem(status_of(error), error.code, detail, headers)


def internal_error() -> Response:
    """The answer when something failed in a way nobody foresaw; the log has the details."""
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal_error",
        "Something failed on our side that nobody foresaw. It is in the server's log.",
    )


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Have every error answered by problem details. `routes` are all there are, the more special ones first."""

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
                return problem(status, "route_not_found", f"There is nothing at {request.url.path}.")
            case HTTPStatus.METHOD_NOT_ALLOWED:
                methods = _methods(_same_path(routes, request))
                if request.method == "OPTIONS":
                    return _options(methods)
                allowed = ", ".join(methods)
                detail = f"{request.url.path} does not take {request.method}, only {allowed}."
                return problem(status, "method_not_allowed", detail, {"Allow": allowed})
        # The framework has no code for it, so the status is one.
        return problem(status, cast("Code", status.name.lower()), error.detail, error.headers)

    app.add_exception_handler(AnbError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)


def documented(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """How these problems are told of in the OpenAPI schema."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {int(status): {"description": status.phrase, "content": content} for status in statuses}


def _options(methods: Iterable[str]) -> Response:
    return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": ", ".join(methods)})


def _same_path(routes: Sequence[BaseRoute], request: Request) -> list[Route]:
    """All routes of an address. Several share a path, and each knows only its own methods."""
    matching = [
        route for route in routes if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
    ]
    return [route for route in matching if route.path == matching[0].path]


def _methods(routes: Iterable[BaseRoute]) -> list[str]:
    methods = {method for route in routes if isinstance(route, Route) for method in route.methods or ()}
    # RequestMiddleware makes a GET of a HEAD.
    return sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set()))


def _of_parameters(errors: Sequence[Any]) -> Iterator[Any]:
    """One error a parameter or element of it. That it may be left out is told as one more thing that it could be."""
    named: set[object] = set()
    for error in errors:
        place, rest = error["loc"][:2], error["loc"][2:]
        path = (*place, *(step for step in rest if isinstance(step, int)))
        if error["type"] != "none_required" and path not in named:
            named.add(path)
            yield error | {"loc": path}
