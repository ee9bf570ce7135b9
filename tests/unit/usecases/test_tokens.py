from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from anb_core.adapters.system import new_id
from anb_core.domain.errors import Invalid, NotFound
from anb_core.domain.model import Scope, Token
from anb_core.testing.clock import ManualClock
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.tokens import add_bootstrap_token, authenticate, create_token, hash_secret, revoke_token
from anb_core.usecases.visibility import Caller


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> InMemoryStore:
    return InMemoryStore(clock.now)


def test_a_token_stands_for_its_owner_and_scope(store: InMemoryStore) -> None:
    new = create_token(store, owner="ana", scope=Scope.OPS, new_id=new_id)

    assert authenticate(store, new.secret) == Caller("ana", Scope.OPS)


def test_ids_of_tokens_are_given_by_the_caller(store: InMemoryStore) -> None:
    ids = iter(["first", "second"])
    create_token(store, owner="ana", scope=Scope.USER, new_id=lambda: next(ids))
    add_bootstrap_token(store, "a-secret-of-the-operator", new_id=lambda: next(ids))
    assert [token.id for token in store.list_tokens()] == ["first", "second"]


def test_two_tokens_never_share_a_secret(store: InMemoryStore) -> None:
    secrets = {create_token(store, owner="ana", scope=Scope.USER, new_id=new_id).secret for _ in range(100)}

    assert len(secrets) == 100
    assert all(len(secret) > 40 for secret in secrets)


def test_the_secret_is_kept_and_shown_nowhere(store: InMemoryStore) -> None:
    new = create_token(store, owner="ana", scope=Scope.USER, new_id=new_id)

    assert new.secret not in repr(store.list_tokens())
    assert new.secret not in repr(new)
    assert new.token.hash not in repr(new)


@pytest.mark.parametrize("secret", ["", "anb_guess", "ü"])
def test_an_unknown_secret_stands_for_nobody(store: InMemoryStore, secret: str) -> None:
    create_token(store, owner="ana", scope=Scope.USER, new_id=new_id)

    assert authenticate(store, secret) is None


def test_an_expired_token_stands_for_nobody(store: InMemoryStore, clock: ManualClock) -> None:
    new = create_token(store, owner="ana", scope=Scope.USER, lifetime=timedelta(days=1), new_id=new_id)
    clock.advance(timedelta(days=1) - timedelta(seconds=1))
    assert authenticate(store, new.secret)

    clock.advance(timedelta(seconds=1))

    assert authenticate(store, new.secret) is None


def test_a_revoked_token_stands_for_nobody_and_is_revoked_once(store: InMemoryStore) -> None:
    new = create_token(store, owner="ana", scope=Scope.USER, new_id=new_id)

    revoke_token(store, new.token.id)

    assert authenticate(store, new.secret) is None
    with pytest.raises(NotFound):
        revoke_token(store, new.token.id)


def test_the_bootstrap_token_is_recorded_once_for_ops(store: InMemoryStore) -> None:
    assert add_bootstrap_token(store, "a-secret-of-the-operator", new_id=new_id)
    assert not add_bootstrap_token(store, "a-secret-of-the-operator", new_id=new_id)

    caller = authenticate(store, "a-secret-of-the-operator")
    assert caller is not None
    assert caller.scope is Scope.OPS


def test_a_revoked_bootstrap_token_does_not_come_back_with_the_next_migration(store: InMemoryStore) -> None:
    add_bootstrap_token(store, "a-secret-of-the-operator", new_id=new_id)
    (token,) = store.list_tokens()
    revoke_token(store, token.id)

    assert not add_bootstrap_token(store, "a-secret-of-the-operator", new_id=new_id)
    assert authenticate(store, "a-secret-of-the-operator") is None


def test_a_bootstrap_token_takes_the_place_of_the_one_before_and_of_no_other(store: InMemoryStore) -> None:
    others = [
        create_token(store, owner="bootstrap", scope=Scope.USER, new_id=new_id),
        create_token(store, owner="bootstrap", scope=Scope.OPS, lifetime=timedelta(days=1), new_id=new_id),
        create_token(store, owner="ana", scope=Scope.OPS, new_id=new_id),
    ]
    for secret in ("the-first-secret-of-all", "the-second-secret-of-all", "the-third-secret-of-all"):
        assert add_bootstrap_token(store, secret, new_id=new_id)

    assert authenticate(store, "the-first-secret-of-all") is None
    assert authenticate(store, "the-second-secret-of-all") is None
    assert authenticate(store, "the-third-secret-of-all")
    assert all(authenticate(store, other.secret) for other in others)


def test_going_back_to_a_bootstrap_token_that_was_replaced_is_told_and_revokes_nothing(store: InMemoryStore) -> None:
    add_bootstrap_token(store, "the-first-secret-of-all", new_id=new_id)
    add_bootstrap_token(store, "the-second-secret-of-all", new_id=new_id)

    with capture_logs() as logs:
        assert not add_bootstrap_token(store, "the-first-secret-of-all", new_id=new_id)

    assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
        "the bootstrap token was revoked earlier, so it gives no access: choose another one"
    ]
    assert authenticate(store, "the-first-secret-of-all") is None
    assert authenticate(store, "the-second-secret-of-all")


def test_a_migration_that_broke_off_before_it_revoked_does_so_the_next_time(store: InMemoryStore) -> None:
    add_bootstrap_token(store, "the-second-secret-of-all", new_id=new_id)
    hashed = hash_secret("the-first-secret-of-all")
    store.add_token(Token("before", "bootstrap", Scope.OPS, hashed, store.now(), expires_at=None))

    assert not add_bootstrap_token(store, "the-second-secret-of-all", new_id=new_id)
    assert authenticate(store, "the-first-secret-of-all") is None


def test_a_token_needs_an_owner(store: InMemoryStore) -> None:
    with pytest.raises(Invalid):
        create_token(store, owner=" ", scope=Scope.USER, new_id=new_id)
