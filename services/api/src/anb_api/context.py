"""What the routes work with, and who calls them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from anb_api.checks import Checks
from anb_api.feed import Hub
from anb_api.metrics import Metrics
from anb_api.problems import Unauthenticated
from anb_api.slots import Slots, too_many_streams, too_many_uploads
from anb_core.bootstrap import Core
from anb_core.usecases.access import Caller
from anb_core.usecases.relay import Relay
from anb_core.usecases.submit import Submit
from anb_core.usecases.tokens import authenticate

MAX_UPLOADS = 16
"""Uploads that one process receives at a time. Each has a thread; who writes to the bucket bounds their memory."""

MAX_STREAMS = 256
"""Event streams that one process holds open at a time: half of its connections."""


@dataclass(frozen=True, slots=True)
class Context:
    """Made once an app."""

    core: Core
    submit: Submit
    relay: Relay
    hub: Hub
    metrics: Metrics
    checks: Checks
    upload_slots: Slots = field(default_factory=lambda: Slots(MAX_UPLOADS, too_many_uploads))
    stream_slots: Slots = field(default_factory=lambda: Slots(MAX_STREAMS, too_many_streams))
    upload_threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(MAX_UPLOADS, thread_name_prefix="upload")
    )


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


Here = Annotated[Context, Depends(_context)]


def _prefix(request: Request) -> str:
    prefix: str = request.state.prefix
    return prefix


Prefix = Annotated[str, Depends(_prefix)]
"""The path under which the caller sees the API; the shell has found it out."""

_bearer = HTTPBearer(auto_error=False, description="A token made by `python -m anb_api token create`.")


def _caller(here: Here, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Caller:
    if credentials is None:
        raise Unauthenticated("token_missing", "This needs the header 'Authorization: Bearer TOKEN'.")
    caller = authenticate(here.core.store, credentials.credentials)
    if caller is None:
        raise Unauthenticated("token_invalid", "This token is unknown, revoked or expired.")
    return caller


CallerHere = Annotated[Caller, Depends(_caller)]
