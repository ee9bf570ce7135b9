from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

from anb_core.domain.model import Scope, Token
from anb_core.ports.store import Store
from tests.support.given import DAY, SECOND
from tests.support.stores import Backend


def new_token(store: Store, *, lifetime: timedelta | None = None, scope: Scope = Scope.USER) -> Token:
    now = store.now()
    expires_at = None if lifetime is None else now + lifetime
    return Token(str(uuid4()), "ada", scope, hash=uuid4().hex, created_at=now, expires_at=expires_at)


def test_a_token_is_found_by_its_hash(store: Store) -> None:
    token = new_token(store, lifetime=DAY, scope=Scope.OPS)
    assert store.add_token(token)
    assert store.find_token(token.hash) == token
    assert store.find_token("unknown") is None


def test_a_secret_is_recorded_once(store: Store) -> None:
    token = new_token(store)
    assert store.add_token(token)
    assert not store.add_token(replace(token, id=str(uuid4()), owner="eve"))
    assert store.find_token(token.hash) == token


def test_an_expired_token_is_not_found(backend: Backend) -> None:
    store = backend.store
    short, endless = new_token(store, lifetime=DAY), new_token(store)
    for token in (short, endless):
        assert store.add_token(token)
    backend.pass_time(DAY - 60 * SECOND)
    assert store.find_token(short.hash) is not None
    backend.pass_time(61 * SECOND)
    assert store.find_token(short.hash) is None
    assert store.find_token(endless.hash) is not None
    assert len(store.list_tokens()) == 2


def test_a_revoked_token_is_not_found_and_its_secret_stays_taken(store: Store) -> None:
    token = new_token(store)
    assert store.add_token(token)
    assert store.revoke_token(token.id)
    assert store.find_token(token.hash) is None
    assert not store.revoke_token(token.id)
    assert not store.revoke_token("unknown")
    assert not store.add_token(replace(token, id=str(uuid4())))
    [listed] = store.list_tokens()
    assert listed.revoked_at is not None


def test_tokens_are_listed_in_the_order_they_were_made(backend: Backend) -> None:
    store = backend.store
    tokens = [replace(new_token(store), created_at=store.now() + number * SECOND) for number in (2, 0, 1)]
    for token in tokens:
        assert store.add_token(token)
    assert [token.id for token in store.list_tokens()] == [tokens[1].id, tokens[2].id, tokens[0].id]


def test_the_store_answers_and_has_a_clock(backend: Backend) -> None:
    backend.store.ping()
    before = backend.store.now()
    assert before.tzinfo is not None
    assert backend.another().now() >= before
