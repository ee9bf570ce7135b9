"""The API tokens in the in-memory store."""

from collections.abc import Sequence
from dataclasses import replace

from anb_core.domain.model import (
    Token,
)
from anb_core.testing.store.tables import Tables


class InMemoryTokens(Tables):
    """Implements `anb_core.ports.store.Tokens`."""

    def add_token(self, token: Token) -> bool:
        with self.transaction():
            if any(kept.hash == token.hash for kept in self.tokens.values()):
                return False
            self.tokens[token.id] = token
            return True

    def find_token(self, token_hash: str) -> Token | None:
        with self.transaction() as now:
            for token in self.tokens.values():
                if (
                    token.hash == token_hash
                    and not token.revoked_at
                    and (not token.expires_at or token.expires_at > now)
                ):
                    return token
            return None

    def list_tokens(self) -> Sequence[Token]:
        with self.transaction():
            return sorted(self.tokens.values(), key=lambda token: (token.created_at, token.id))

    def revoke_token(self, token_id: str) -> bool:
        with self.transaction() as now:
            token = self.tokens.get(token_id)
            if token is None or token.revoked_at:
                return False
            self.tokens[token_id] = replace(token, revoked_at=now)
            return True
