"""What is wrong with a command line, as one sentence, without the words of the library that read it."""

import re
from typing import Any

_PLAIN = (
    (re.compile(r"Input should be a valid integer.*"), "it is no whole number"),
    (re.compile(r"Input should be a valid number.*"), "it is no number"),
    (re.compile(r"Input should be a finite number.*"), "it is no number"),
    (re.compile(r"Input should be greater than or equal to (\S+)"), r"it must be \1 or more"),
    (re.compile(r"Input should be less than or equal to (\S+)"), r"it must be \1 or less"),
    (re.compile(r"Input should be .*"), "it can't be understood"),
)


def complaint(error: Exception) -> str | None:
    """The sentence, of several lines where all of the help is meant; None of any other error.

    Typer raises what it took over from click, a class without a public name: it is known by what it can do.
    """
    usage_error: Any = error
    if not (hasattr(usage_error, "format_message") and hasattr(usage_error, "exit_code")):
        return None
    said = str(usage_error.format_message()).strip()
    if said.startswith("Usage:"):
        return said
    for pattern, words in _PLAIN:
        said = pattern.sub(words, said)
    context = getattr(usage_error, "ctx", None)
    hint = f" `{context.command_path} -h` tells more." if context is not None else ""
    return f"{said.rstrip('.')}.{hint}"
