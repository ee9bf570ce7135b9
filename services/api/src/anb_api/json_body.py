"""Reads small JSON bodies, after the token was checked. FastAPI itself would read a body of any size first."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from anb_api.auth import CurrentCaller
from anb_api.body import Body
from anb_api.problems import documented
from anb_core.domain import validation
from anb_core.domain.errors import Invalid

MAX_JSON_BYTES = 1024 * 1024
"""Maximum size of a JSON body in bytes."""

M = TypeVar("M", bound=BaseModel)


def json_body(model: type[M]) -> Callable[..., Coroutine[Any, Any, M]]:
    """Return a FastAPI dependency that parses the request's body as `model`. `documented_body` documents the body."""

    async def read(request: Request, _: CurrentCaller) -> M:
        body = await Body(request.receive).read(MAX_JSON_BYTES)
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            raise Invalid("request_invalid", validation.describe(error.errors(), "body")) from error

    return read


def documented_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI description of a request body that `json_body(model)` parses."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


BODY_REFUSED = documented(HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
"""The OpenAPI descriptions of the error responses for a body that is invalid, too large, or arrives too slowly."""
