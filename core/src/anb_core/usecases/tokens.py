"""Create, check and revoke API tokens. Only the hash of a secret is stored.

A slow hash would add no security. SHA-256 is enough, because a secret is 256 random bits, which nobody can guess.
"""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

import structlog

from anb_core.domain.errors import Invalid, NotFound
from anb_core.domain.model import Scope, Token
from anb_core.ports.store import Clock, Tokens
from anb_core.usecases.visibility import Caller

PREFIX = "anb_"
"""Every secret begins with this prefix, so that people and secret scanners recognise it."""

BOOTSTRAP_OWNER = "bootstrap"

_log = structlog.get_logger(__name__)


class TokenStore(Tokens, Clock, Protocol):
    """The protocols of the store that are needed to create a token."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A new token, together with its secret."""

    token: Token
    secret: str = field(repr=False)
    """The secret of the token. It is not stored, so it can't be shown again later."""


def hash_secret(secret: str) -> str:
    """Return the hash of a secret, as hexadecimal SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()


def create_token(
    store: TokenStore, *, owner: str, scope: Scope, new_id: Callable[[], str], lifetime: timedelta | None = None
) -> NewToken:
    """Create a token. Without `lifetime`, the token never expires.

    Raises:
        Invalid: `owner_empty` if the owner is empty.
    """
    secret = PREFIX + secrets.token_urlsafe(32)
    token, _ = _add(store, secret, owner=owner, scope=scope, token_id=new_id(), lifetime=lifetime)
    return NewToken(token, secret)


def add_bootstrap_token(store: TokenStore, secret: str, *, new_id: Callable[[], str]) -> bool:
    """Create the bootstrap token: it has the given secret and the scope `ops`. Revoke earlier bootstrap tokens.

    Returns False if a token with this secret already existed.
    If the existing token was revoked, it stays revoked, and no other token is revoked.
    """
    token, added = _add(store, secret, owner=BOOTSTRAP_OWNER, scope=Scope.OPS, token_id=new_id(), lifetime=None)
    if store.find_token(token.hash) is None:
        _log.warning("the bootstrap token was revoked earlier, so it gives no access: choose another one")
        return added
    for other in store.list_tokens():
        is_bootstrap = (other.owner, other.scope, other.expires_at) == (BOOTSTRAP_OWNER, Scope.OPS, None)
        if is_bootstrap and other.hash != token.hash and store.revoke_token(other.id):
            _log.info("an earlier bootstrap token was revoked", token_id=other.id)
    return added


def authenticate(store: Tokens, secret: str) -> Caller | None:
    """Return the caller that a token belongs to. None if the token does not exist, was revoked or has expired."""
    token = store.find_token(hash_secret(secret))
    return Caller(token.owner, token.scope) if token else None


def revoke_token(store: Tokens, token_id: str) -> None:
    """Revoke a token. After this call, the token gives no access.

    Raises:
        NotFound: `token_not_found` if the token does not exist or was revoked before.
    """
    if not store.revoke_token(token_id):
        raise NotFound("token_not_found", f"There is no token {token_id}, or it was revoked before.")


def _add(
    store: TokenStore, secret: str, *, owner: str, scope: Scope, token_id: str, lifetime: timedelta | None
) -> tuple[Token, bool]:
    if not owner.strip():
        raise Invalid("owner_empty", "A token needs an owner.")
    now = store.now()
    token = Token(
        id=token_id,
        owner=owner,
        scope=scope,
        hash=hash_secret(secret),
        created_at=now,
        expires_at=now + lifetime if lifetime is not None else None,
    )
    return token, store.add_token(token)
