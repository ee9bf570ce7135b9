"""Reads environment variables into a settings model, and writes an error message for each wrong variable."""

import sys
from typing import TypeVar, get_args

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings

from anb_core.settings.parsing import plain

EXIT_MISCONFIGURED = 2

S = TypeVar("S", bound=BaseSettings)


class Misconfigured(ValueError):
    """Some environment variables are missing or wrong. `problems` has one sentence for each wrong variable."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load(kind: type[S]) -> S:
    """Read environment variables into a settings model of the class `kind`.

    Raises:
        Misconfigured: some variables are missing or wrong.
    """
    try:
        return kind()
    except ValidationError as error:
        raise Misconfigured([_sentence(kind, detail) for detail in error.errors()]) from None


def load_or_exit(kind: type[S]) -> S:
    """Read environment variables into a settings model. If some are wrong, print the errors and exit with code 2."""
    try:
        return load(kind)
    except Misconfigured as error:
        for problem in error.problems:
            sys.stderr.write(f"configuration: {problem}\n")
        raise SystemExit(EXIT_MISCONFIGURED) from None


def _sentence(kind: type[BaseSettings], detail: ErrorDetails) -> str:
    # pydantic's error has the field's name if the default is wrong, and the field's alias if a given value is wrong.
    field = next(field for name, field in kind.model_fields.items() if detail["loc"][0] in {name, field.alias})
    if detail["type"] == "missing":
        return f"{field.alias} is not set. {field.description}"
    reason = str(detail.get("ctx", {}).get("error", detail["msg"][:1].lower() + detail["msg"][1:]))
    given = plain(detail["input"])
    # Do not show a value with an @, because the text before the @ may be a password.
    if _is_secret(field.annotation) or "@" in str(given):
        return f"{field.alias} can't be used: {reason}."
    return f"{field.alias} is {given}: {reason}." if given else f"{field.alias} is not set: {reason}."


def _is_secret(annotation: object) -> bool:
    return annotation is SecretStr or any(map(_is_secret, get_args(annotation)))
