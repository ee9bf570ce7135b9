"""API tokens: made, checked, revoked. Only the hash of a secret is ever kept.

A plain SHA-256 is enough: our secrets have 256 bits of chance, so there is nothing that a slow hash would protect.
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol
from uuid import uuid4

import structlog

from anb_core.domain.errors import Invalid, NotFound
from anb_core.domain.model import Scope, Token
from anb_core.ports.store import Clock, Tokens
from anb_core.usecases.visibility import Caller

PREFIX = "anb_"
"""Marks our secrets for people and for scanners of leaked secrets."""

BOOTSTRAP_OWNER = "bootstrap"

_log = structlog.get_logger(__name__)


class TokenStore(Tokens, Clock, Protocol):
    """What making a token needs of the store."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token at the only moment its secret is known."""

    token: Token
    secret: str = field(repr=False)


def hash_secret(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def create_token(store: TokenStore, *, owner: str, scope: Scope, lifetime: timedelta | None = None) -> NewToken:
    """Make a token; without `lifetime` it never expires.

    Raises:
        Invalid: `owner_empty`.
    """
    secret = PREFIX + secrets.token_urlsafe(32)
    return NewToken(_add(store, secret, owner=owner, scope=scope, lifetime=lifetime)[0], secret)


def add_bootstrap_token(store: TokenStore, secret: str) -> bool:
    """Record a secret that was chosen elsewhere, with scope `ops`, and revoke those that were before it.

    False when it was recorded before. One that was revoked does not come back, and then no other is revoked.
    """
    token, added = _add(store, secret, owner=BOOTSTRAP_OWNER, scope=Scope.OPS, lifetime=None)
    if store.find_token(token.hash) is None:
        _log.warning("the bootstrap token was revoked before, and lets nobody in: choose another")
        return added
    for other in store.list_tokens():
        ours = (other.owner, other.scope, other.expires_at) == (BOOTSTRAP_OWNER, Scope.OPS, None)
        if ours and other.hash != token.hash and store.revoke_token(other.id):
            _log.info("the bootstrap token before this one is revoked", token_id=other.id)
    return added


def authenticate(store: Tokens, secret: str) -> Caller | None:
    """Whose token this is; None when it is unknown, revoked or expired."""
    token = store.find_token(hash_secret(secret))
    return Caller(token.owner, token.scope) if token else None


def revoke_token(store: Tokens, token_id: str) -> None:
    """From now on the token is not known.

    Raises:
        NotFound: `token_not_found`.
    """
    if not store.revoke_token(token_id):
        raise NotFound("token_not_found", f"There is no token {token_id} that could be revoked.")


def _add(store: TokenStore, secret: str, *, owner: str, scope: Scope, lifetime: timedelta | None) -> tuple[Token, bool]:
    if not owner.strip():
        raise Invalid("owner_empty", "A token needs an owner.")
    now = store.now()
    token = Token(
        id=uuid4().hex,
        owner=owner,
        scope=scope,
        hash=hash_secret(secret),
        created_at=now,
        expires_at=now + lifetime if lifetime is not None else None,
    )
    return token, store.add_token(token)
