"""Writes settings down for people.

`python -m anb_core.settings.documenting docs/configuration.md` writes the table of these settings into that document.
"""

import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from pydantic.fields import FieldInfo

from anb_core.settings.capabilities import Settings
from anb_core.settings.parsing import plain

TABLE_BEGIN = "<!-- settings: begin (written by `python -m anb_core.settings.documenting docs/configuration.md`) -->"
TABLE_END = "<!-- settings: end -->"


def table(fields: Iterable[FieldInfo] = Settings.model_fields.values()) -> str:
    """Settings as a Markdown table."""
    rows = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for field in fields:
        default = "required" if field.is_required() else _default(field.default)
        rows.append(f"| `{field.alias}` | {default} | {field.description} |")
    return "\n".join(rows)


def _default(value: object) -> str:
    match value:
        case bool():
            return f"`{value}`".lower()
        case int() | str() | timedelta() if value:
            return f"`{plain(value)}`"
    return ""


def with_table(document: str) -> str:
    """The document with the table between its two markers."""
    before, begin, rest = document.partition(TABLE_BEGIN)
    _, end, after = rest.partition(TABLE_END)
    if not (begin and end):
        raise ValueError(f"the document has no lines {TABLE_BEGIN} and {TABLE_END}")
    return f"{before}{begin}\n\n{table()}\n\n{end}{after}"


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(with_table(document.read_text(encoding="utf-8")), encoding="utf-8")
