"""Turns Typer's error about wrong arguments into a plain message."""

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
    """Return the message for an error that Typer raised about the arguments, or None for any other error.

    If the error's message is a help text, the help text is returned unchanged.
    Typer has no public class for these errors, so the function recognizes them by their attributes.
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
