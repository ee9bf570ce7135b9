"""Turns Typer's error about a command line into one plain sentence."""

import re
from typing import Any

_PLAIN = (
    (re.compile(r"Input should be a valid integer.*"), "it is not a whole number"),
    (re.compile(r"Input should be a valid number.*"), "it is not a number"),
    (re.compile(r"Input should be a finite number.*"), "it is not a number"),
    (re.compile(r"Input should be greater than or equal to (\S+)"), r"it must be \1 or more"),
    (re.compile(r"Input should be less than or equal to (\S+)"), r"it must be \1 or less"),
    (re.compile(r"Input should be .*"), "it can't be understood"),
)


def usage_message(error: Exception) -> str | None:
    """Return the sentence for a usage error, or the help text if the error contains help. None for any other error.

    Typer's usage error has no public class, so the error is recognized by its attributes.
    """
    usage_error: Any = error
    if not (hasattr(usage_error, "format_message") and hasattr(usage_error, "exit_code")):
        return None
    message = str(usage_error.format_message()).strip()
    if message.startswith("Usage:"):
        return message
    for pattern, words in _PLAIN:
        message = pattern.sub(words, message)
    context = getattr(usage_error, "ctx", None)
    hint = f" See `{context.command_path} -h`." if context is not None else ""
    return f"{message.rstrip('.')}.{hint}"
