"""Authentication: checks the bearer token of a request."""

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from anb_api.context import CurrentContext
from anb_api.problems import Unauthenticated
from anb_core.usecases.tokens import authenticate
from anb_core.usecases.visibility import Caller

_bearer = HTTPBearer(auto_error=False, description="A token from `python -m anb_api token create`.")


def _caller(
    context: CurrentContext, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    if credentials is None:
        raise Unauthenticated("token_missing", "This request needs the header 'Authorization: Bearer TOKEN'.")
    caller = authenticate(context.store, credentials.credentials)
    if caller is None:
        raise Unauthenticated("token_invalid", "This token is unknown, revoked or expired.")
    return caller


CurrentCaller = Annotated[Caller, Depends(_caller)]
