"""Reads the environment into a program's model, and says in sentences what is wrong with it."""

import sys
from typing import TypeVar, get_args

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings

from anb_core.settings.parsing import plain

EXIT_MISCONFIGURED = 2

S = TypeVar("S", bound=BaseSettings)


class Misconfigured(ValueError):
    """The environment can't be worked with; `problems` has one sentence for each thing that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load(kind: type[S]) -> S:
    """Read the environment.

    Raises:
        Misconfigured: with a sentence for each wrong variable.
    """
    try:
        return kind()
    except ValidationError as error:
        raise Misconfigured([_sentence(kind, detail) for detail in error.errors()]) from None


def load_or_exit(kind: type[S]) -> S:
    """Read the environment, or say on stderr what is wrong with it and exit with 2."""
    try:
        return load(kind)
    except Misconfigured as error:
        for problem in error.problems:
            sys.stderr.write(f"configuration: {problem}\n")
        raise SystemExit(EXIT_MISCONFIGURED) from None


def _sentence(kind: type[BaseSettings], detail: ErrorDetails) -> str:
    # A default that does not fit is located by the field's name, a given value by its alias.
    field = next(field for name, field in kind.model_fields.items() if detail["loc"][0] in {name, field.alias})
    if detail["type"] == "missing":
        return f"{field.alias} is not set. {field.description}"
    told = str(detail.get("ctx", {}).get("error", detail["msg"][:1].lower() + detail["msg"][1:]))
    given = plain(detail["input"])
    # Before an @ there may be a password.
    if _is_secret(field.annotation) or "@" in str(given):
        return f"{field.alias} can't be used: {told}."
    return f"{field.alias} is {given}: {told}." if given else f"{field.alias} is not set: {told}."


def _is_secret(annotation: object) -> bool:
    return annotation is SecretStr or any(map(_is_secret, get_args(annotation)))
