"""Which deployment a command talks to: ANB_URL and ANB_TOKEN, or the nearest `.anb` folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anb_cli.errors import Unreachable, WrongUse
from anb_cli.stack.folder import find


@dataclass(frozen=True, slots=True)
class Connection:
    """An address without a slash at its end, and the token that goes with it."""

    url: str
    token: str = field(repr=False)


def connection(environ: Mapping[str, str], folder: Path) -> Connection:
    """Find address and token, beginning at `folder`.

    The token of a local stack is never sent to another address.

    Raises:
        WrongUse: the address or the token is not known.
        Unreachable: the local stack does not run.
    """
    url, token = environ.get("ANB_URL"), environ.get("ANB_TOKEN")
    if url:
        if not url.startswith(("http://", "https://")):
            raise WrongUse(f"ANB_URL is {url!r}, but must begin with http:// or https://.")
        if not token:
            raise WrongUse("ANB_URL is set, but ANB_TOKEN is not: set it to a token of that deployment.")
        return Connection(url.rstrip("/"), token)
    local = find(folder)
    if local is None:
        raise WrongUse(
            "No stack was ever started in this folder or above it: start one with `anb up`, "
            "or set ANB_URL and ANB_TOKEN to talk to another deployment."
        )
    running = local.running()
    token = token or local.known_token()
    if running is None or token is None:
        raise Unreachable(f"The stack in {local.path} does not run: start it with `anb up`.")
    return Connection(running.url, token)
