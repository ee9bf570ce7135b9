"""The store's port for API tokens."""

from collections.abc import Sequence
from typing import Protocol

from anb_core.domain.model import Token


class Tokens(Protocol):
    """API tokens. A token is found by the hash of its secret."""

    def add_token(self, token: Token) -> bool:
        """Store a token. Returns False if a token with the same hash exists."""
        ...

    def find_token(self, token_hash: str) -> Token | None:
        """Return the token with the hash `token_hash`. None if the token does not exist, was revoked or has expired."""
        ...

    def list_tokens(self) -> Sequence[Token]: ...

    def revoke_token(self, token_id: str) -> bool:
        """Revoke a token. Returns False if the token does not exist or was revoked before."""
        ...
