from dataclasses import FrozenInstanceError, fields, is_dataclass
from datetime import UTC, datetime

import pytest

from anb_core.domain import keys, model
from anb_core.domain.model import Counters, Scope, Token


def test_the_hash_of_a_token_is_never_printed() -> None:
    token = Token("id", "ada", Scope.USER, "0123456789abcdef", datetime(2026, 1, 1, tzinfo=UTC))
    assert token.hash not in repr(token)


def test_every_value_is_frozen() -> None:
    kinds = [kind for kind in vars(model).values() if is_dataclass(kind) and isinstance(kind, type)]
    assert len(kinds) > 10
    for kind in kinds:
        assert kind.__dataclass_params__.frozen, kind  # type: ignore[attr-defined]
    with pytest.raises(FrozenInstanceError):
        Counters().failures = 1  # type: ignore[misc]


def test_what_went_wrong_is_counted_from_zero() -> None:
    assert {field.name: field.default for field in fields(Counters)} == {"failures": 0, "lost": 0, "interruptions": 0}


def test_no_two_attempts_share_a_key() -> None:
    made = {keys.result_key("v", fence, attempt) for fence in (1, 2) for attempt in ("a", "b")}
    assert len(made) == 4
    assert all(key.startswith(keys.PROCESSED) for key in made)
    assert keys.upload_key("v") == "uploads/v.mp4"
