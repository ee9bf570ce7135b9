"""Finds the deployment for a command, from ANB_URL and ANB_TOKEN or from the nearest `.anb` folder."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import httpx

from anb_cli.errors import Unreachable, WrongUse
from anb_cli.stack.folder import current_folder, find

_SCHEMES = ("http", "https")

_PAGES = re.compile(r"(/api|/api/videos|/docs|/redoc|/openapi\.json|/healthz|/readyz)?/*$")
"""Paths that are removed from the end of ANB_URL, because people often copy the address of a page into ANB_URL."""

_NAME = re.compile(r"([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?", re.IGNORECASE)
LONGEST_NAME = 253
LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Connection:
    """A deployment and the token for it."""

    url: str
    """Base URL of the API, without a trailing slash."""
    token: str = field(repr=False)
    """The bearer token."""


def connection(environ: Mapping[str, str], folder: Path | None = None) -> Connection:
    """Return a deployment's address and token, from `environ` or from the nearest `.anb` folder.

    The search for `.anb` begins in `folder`, by default in the current folder, and continues in its parent folders.
    The token of a local stack is returned only together with the address of this stack.
    No error message contains a token or a password.

    Raises:
        WrongUse: the address or the token is missing or malformed.
        Unreachable: the local stack is not running.
    """
    url, token = environ.get("ANB_URL", "").strip(), _checked_token(environ.get("ANB_TOKEN", ""))
    if url:
        address = _checked_url(url)
        if not token:
            raise WrongUse("ANB_URL is set, but ANB_TOKEN is not: set it to a token of that deployment.")
        return Connection(address, token)
    try:
        return _local(token, folder)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else "a file in its .anb folder is damaged"
        raise WrongUse(
            f"The stack of this folder can't be found: {why}. ANB_URL and ANB_TOKEN name another."
        ) from error


def _local(token: str, folder: Path | None) -> Connection:
    local = find(folder or current_folder())
    if local is None:
        raise WrongUse(
            "No stack was ever started in this folder or above it: start one with `anb up`, "
            "or set ANB_URL and ANB_TOKEN to talk to another deployment."
        )
    running = local.running()
    token = token or _checked_token(local.known_token() or "", f"The file {local.path / 'token'}")
    if running is None or not token:
        raise Unreachable(f"The stack in {local.path} does not run: start it with `anb up`.")
    return Connection(_checked_url(running.url), token)


def _checked_url(given: str) -> str:
    """Return the base URL of the deployment, without the path of a page, query or trailing slash.

    Raises:
        WrongUse: the value is not an HTTP address.
    """
    scheme, colon, _ = given.partition("://")
    secret = "@" in given or given.startswith("anb_")
    shown = "it" if secret else repr(given)
    if not colon or scheme.lower() not in _SCHEMES:
        raise WrongUse(f"ANB_URL names the deployment, but {shown} does not begin with http:// or https://.")
    try:
        url = httpx.URL(given)
        good = _is_host(url.raw_host.decode()) and (url.port is None or 0 < url.port <= LAST_PORT)
    except (httpx.InvalidURL, ValueError) as error:
        raise WrongUse(f"ANB_URL names the deployment, but {shown} is not a valid address.") from error
    if url.userinfo:
        raise WrongUse("ANB_URL contains a user name or a password: remove it. ANB_TOKEN is the permission.")
    if not good:
        raise WrongUse(f"ANB_URL names the deployment, but {shown} is not a valid address.")
    return str(url.copy_with(path=_PAGES.sub("", url.path), query=None, fragment=None)).rstrip("/")


def _is_host(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return _NAME.fullmatch(host) is not None and len(host) <= LONGEST_NAME
    return True


def _checked_token(given: str, what: str = "ANB_TOKEN") -> str:
    """Return the token without surrounding whitespace, or "". A token from a file often ends with a line break.

    Raises:
        WrongUse: the token contains an invalid character. `what` is the token's name in the message.
    """
    token = given.strip()
    for place, letter in enumerate(token, start=1):
        if not "!" <= letter <= "~":
            raise WrongUse(f"{what} is not a token: its character {place} of {len(token)} is U+{ord(letter):04X}.")
    return token
