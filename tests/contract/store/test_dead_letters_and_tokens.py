from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from anb_core.adapters.system import new_id
from anb_core.domain.model import DeadLetterCause, Problem, Scope, Token
from anb_core.domain.retry import plan_rejection
from anb_core.ports.store import MAX_DEAD_LETTER_BODY, Store, Unknown
from tests.support.given import DAY, LEASE, POLICY, SECOND, processing
from tests.support.stores import Backend


def new_token(store: Store, *, lifetime: timedelta | None = None, scope: Scope = Scope.USER) -> Token:
    now = store.now()
    expires_at = None if lifetime is None else now + lifetime
    return Token(str(uuid4()), "ada", scope, hash=uuid4().hex, created_at=now, expires_at=expires_at)


def test_a_message_that_belongs_to_no_job_is_recorded_once(backend: Backend) -> None:
    store = backend.store
    recorded = [
        store.record_dead_letter(
            cause=DeadLetterCause.UNKNOWN_JOB, message_id=message_id, body="{}", detail="There is no video 7."
        )
        for message_id in ("m1", "m1", "m2")
    ]
    assert recorded == [True, False, True]
    assert backend.dead_letters() == [
        (DeadLetterCause.UNKNOWN_JOB, "There is no video 7.", None, None, message_id, "{}")
        for message_id in ("m1", "m2")
    ]


def test_a_body_is_kept_only_as_far_as_it_helps(backend: Backend) -> None:
    store = backend.store
    assert store.record_dead_letter(
        cause=DeadLetterCause.UNREADABLE, message_id="m", body="é" * 200_000, detail="not JSON"
    )
    [letter] = backend.dead_letters()
    assert letter.body == "é" * MAX_DEAD_LETTER_BODY


@pytest.mark.parametrize("odd", ["a\0b", "a\ud800b"], ids=["NUL", "half a pair"])
def test_text_that_no_database_keeps_is_recorded_as_well_as_can_be(backend: Backend, odd: str) -> None:
    store = backend.store
    assert store.record_dead_letter(cause=DeadLetterCause.UNREADABLE, message_id="m", body=odd, detail=odd)
    [letter] = backend.dead_letters()
    assert letter.body is not None
    assert (letter.body[0], letter.body[-1]) == ("a", "b")
    lease = processing(store)
    assert store.settle(lease, plan_rejection(lease.counters, Problem("corrupt", odd)))
    # Look up ids with any character, because nothing validates the ids in messages and URLs.
    assert store.get(odd) is None
    assert store.claim(odd, generation=1, attempt_id=new_id(), worker="w", lease=LEASE, policy=POLICY) == Unknown()
    assert store.find_token(odd) is None


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
