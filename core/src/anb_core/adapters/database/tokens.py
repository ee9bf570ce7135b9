"""The API tokens in the database."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, or_, select, update

from anb_core.adapters.database.engine import Repository, decoding, insert, now_plus
from anb_core.adapters.database.tables import api_tokens
from anb_core.domain.model import Scope, Token


class TokensRepository(Repository):
    """Implements `anb_core.ports.store.Tokens`."""

    def add_token(self, token: Token) -> bool:
        with self.database.transaction() as connection:
            added = connection.scalar(
                insert(connection, api_tokens)
                .values(
                    id=token.id,
                    owner=token.owner,
                    scope=token.scope,
                    hash=token.hash,
                    created_at=token.created_at,
                    expires_at=token.expires_at,
                    revoked_at=token.revoked_at,
                )
                .on_conflict_do_nothing(index_elements=[api_tokens.c.hash])
                .returning(api_tokens.c.id)
            )
            return added is not None

    def find_token(self, token_hash: str) -> Token | None:
        valid = select(api_tokens).where(
            api_tokens.c.hash == token_hash,
            api_tokens.c.revoked_at.is_(None),
            or_(api_tokens.c.expires_at.is_(None), api_tokens.c.expires_at > now_plus()),
        )
        with self.database.reading() as connection:
            # If this version does not know the scope of the token, the token is skipped and gives no access.
            return next(self.readable(connection.execute(valid), _token), None)

    def list_tokens(self) -> Sequence[Token]:
        with self.database.reading() as connection:
            rows = connection.execute(select(api_tokens).order_by(api_tokens.c.created_at, api_tokens.c.id))
            return list(self.readable(rows, _token))

    def revoke_token(self, token_id: str) -> bool:
        with self.database.transaction() as connection:
            revoked = connection.execute(
                update(api_tokens)
                .where(api_tokens.c.id == token_id, api_tokens.c.revoked_at.is_(None))
                .values(revoked_at=now_plus())
            )
            return revoked.rowcount == 1


def _token(row: Row[Any]) -> Token:
    with decoding("token_unreadable", f"token {row.id}"):
        return Token(
            id=row.id,
            owner=row.owner,
            scope=Scope(row.scope),
            hash=row.hash,
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
        )
