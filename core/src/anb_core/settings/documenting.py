"""Lists the settings of all programs, for docs/configuration.md and for tests of the chart.

`Programs` maps each program's name to its settings model.
"""

from collections.abc import Mapping
from datetime import timedelta

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from anb_core.settings.parsing import plain

Programs = Mapping[str, type[BaseSettings]]


def readers(programs: Programs) -> dict[str, list[str]]:
    """Map each environment variable to the names of the programs that read it."""
    found: dict[str, list[str]] = {}
    for name, model in programs.items():
        for field in model.model_fields.values():
            found.setdefault(str(field.alias), []).append(name)
    return found


def table(programs: Programs) -> str:
    """Return all environment variables as a Markdown table."""
    fields = {field.alias: field for model in programs.values() for field in model.model_fields.values()}
    rows = ["| Variable | Default | Read by | Meaning |", "|---|---|---|---|"]
    for variable, names in readers(programs).items():
        field = fields[variable]
        rows.append(f"| `{variable}` | {_default(field)} | {', '.join(names)} | {field.description} |")
    return "\n".join(rows)


def _default(field: FieldInfo) -> str:
    match field.default:
        case _ if field.is_required():
            return "required"
        case bool() as value:
            return f"`{value}`".lower()
        case int() | str() | timedelta() as value if value:
            return f"`{plain(value)}`"
    return ""
