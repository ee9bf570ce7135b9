from typing import Annotated, Any, Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from anb_core.domain import validation
from anb_core.domain.edit import EditSpec

INSIDE = ("Input", "should", "valid", "pydantic", "Pydantic", "validation", "permitted", "Extra", "instance")
"""Technical words of pydantic's messages, which error messages for users must not contain."""


def errors_of(kind: Any, raw: str) -> list[ErrorDetails]:
    with pytest.raises(ValidationError) as error:
        TypeAdapter(kind).validate_json(raw, strict=True)
    return error.value.errors()


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ("{", "edit: it is not JSON."),
        ("7", "edit: it must be an object (it is 7)."),
        ('{"rotate": 90}', "edit.rotate: there is no such field."),
        ('{"trim": []}', "edit.trim: it must be an object (it is [])."),
        ('{"trim": {"start": -1}}', "edit.trim.start: it must be at least 0.0 (it is -1)."),
        ('{"trim": {"length": 31}}', "edit.trim.length: it must be at most 30.0 (it is 31)."),
        ('{"trim": {"length": true}}', "edit.trim.length: it must be a number (it is true)."),
        ('{"trim": {"length": NaN}}', "edit.trim.length: it must be a number (it is NaN)."),
        ('{"intro": {"enabled": "no"}}', 'edit.intro.enabled: it must be true or false (it is "no").'),
        (
            '{"intro": {"enabled": 1}, "speed": 2}',
            "edit.intro.enabled: it must be true or false (it is 1); edit.speed: there is no such field.",
        ),
    ],
)
def test_what_is_wrong_with_an_edit_is_told_in_our_words(raw: str, sentence: str) -> None:
    assert validation.describe(errors_of(EditSpec, raw), "edit") == sentence


def test_words_to_choose_from_are_told() -> None:
    sentence = validation.describe(errors_of(dict[str, Literal["a", "b"]], '{"kind": "c"}'))
    assert sentence == "kind: it must be 'a' or 'b' (it is \"c\")."


@pytest.mark.parametrize("given", ['"yesterday"', '"2026-01-31"', '"2026-01-31T12:00:00"', "7", "null"])
def test_a_time_needs_its_zone(given: str) -> None:
    sentence = validation.describe(errors_of(AwareDatetime, given), "since")
    assert sentence == f"since: it must be a time with its zone, such as 2026-01-31T12:00:00Z (it is {given})."


@given(st.text(max_size=200))
def test_a_value_is_shown_in_printable_characters_and_not_for_ever(value: str) -> None:
    class Model(BaseModel):
        model_config = ConfigDict(extra="forbid")
        word: Annotated[str, Field(pattern="^$", max_length=0)] = ""

    try:
        Model(word=value)
    except ValidationError as error:
        sentence = validation.describe(error.errors())
        assert sentence.isascii()
        assert sentence.isprintable()
        assert len(sentence) < 200


@pytest.mark.parametrize("kind", get_args(ErrorType))
def test_no_error_of_the_library_is_told_in_its_own_words(kind: str) -> None:
    for context in ({}, {"error": "a sentence of ours", "ge": 1, "le": 2, "expected": "1 or 2"}):
        details = ErrorDetails(type=kind, loc=("body", "x"), msg="Input should be valid", input=None, ctx=context)
        sentence = validation.describe([details])
        assert sentence.startswith("body.x: ")
        assert not [word for word in INSIDE if word in sentence]
