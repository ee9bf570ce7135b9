"""Who calls: the bearer token of a request is checked here."""

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from anb_api.context import Here
from anb_api.problems import Unauthenticated
from anb_core.usecases.tokens import authenticate
from anb_core.usecases.visibility import Caller

_bearer = HTTPBearer(auto_error=False, description="A token made by `python -m anb_api token create`.")


def _caller(here: Here, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Caller:
    if credentials is None:
        raise Unauthenticated("token_missing", "This needs the header 'Authorization: Bearer TOKEN'.")
    caller = authenticate(here.store, credentials.credentials)
    if caller is None:
        raise Unauthenticated("token_invalid", "This token is unknown, revoked or expired.")
    return caller


CallerHere = Annotated[Caller, Depends(_caller)]
