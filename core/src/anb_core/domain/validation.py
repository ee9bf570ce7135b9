"""Write sentences for people about invalid values. pydantic's own messages use technical terms."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import ErrorDetails

SHOWN = 60
"""An error message shows at most this many characters of an invalid value."""

_NUMBER = "it must be a number"
_WHOLE = "it must be a whole number"
_TIME = "it must be a time with its zone, such as 2026-01-31T12:00:00Z"
_RULES: Mapping[str, str] = {
    "missing": "it is missing",
    "extra_forbidden": "there is no such field",
    "json_invalid": "it is not JSON",
    "json_type": "it is not JSON",
    "greater_than": "it must be more than {gt}",
    "greater_than_equal": "it must be at least {ge}",
    "less_than": "it must be less than {lt}",
    "less_than_equal": "it must be at most {le}",
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "finite_number": _NUMBER,
    "bool_parsing": "it must be true or false",
    "bool_type": "it must be true or false",
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
    "datetime_type": _TIME,
    "timezone_aware": _TIME,
    "string_type": "it must be text",
    "string_unicode": "it must be text in UTF-8",
    "string_too_short": "it must have at least {min_length} characters",
    "string_too_long": "it must have at most {max_length} characters",
    "string_pattern_mismatch": "it has a character that is not allowed, or too many characters",
    "enum": "it must be {expected}",
    "literal_error": "it must be {expected}",
    "model_type": "it must be an object",
    "model_attributes_type": "it must be an object",
    "dict_type": "it must be an object",
    "list_type": "it must be a list",
    "value_error": "{error}",
}
_OTHERWISE = "it can't be used"

_WITHOUT_VALUE = frozenset({"missing", "extra_forbidden", "json_invalid", "json_type"})


def describe(errors: Iterable[ErrorDetails], *within: str) -> str:
    """Describe all errors in one sentence, with the path and the value of each error. Paths begin with `within`."""
    return "; ".join(_describe(error, within) for error in errors) + "."


def _describe(error: ErrorDetails, within: tuple[str, ...]) -> str:
    path = ".".join(str(step) for step in (*within, *error["loc"]))
    given = "" if error["type"] in _WITHOUT_VALUE else f" (it is {_shown(error['input'])})"
    return f"{path}: {_rule(error['type'], error.get('ctx', {}))}{given}"


def _rule(kind: str, context: Mapping[str, Any]) -> str:
    try:
        return _RULES.get(kind, _OTHERWISE).format_map(context)
    except KeyError:
        return _OTHERWISE


def _shown(value: object) -> str:
    """Return a value as shortened JSON, in which control characters are escaped."""
    text = json.dumps(value, default=str, ensure_ascii=True)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
