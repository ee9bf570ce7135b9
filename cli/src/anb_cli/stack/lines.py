"""Pure functions that select the log lines for `anb up`: one line per attempt, and all warnings and errors."""

import json
from dataclasses import dataclass
from typing import Any

SERIOUS = frozenset({"warning", "error", "critical"})

HIDDEN = frozenset(
    {"attempt_id", "exception", "fence", "level", "logger", "message", "message_id", "outcome", "steps", "timestamp"}
)
"""Fields of a log record that `anb up` does not append to the message."""

SHORT_ID = 8
"""Number of characters of a video's id that `anb up` shows."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line that `anb up` shows."""

    text: str
    level: str
    """Log level in lower case, such as `warning`."""


def readable(raw: str) -> Line | None:
    """Return the line that `anb up` shows for a raw log line, or None if the log line is not shown.

    A line that is not JSON is shown as an error, because it usually belongs to the traceback of a crash.
    """
    if not raw.strip():
        return None
    try:
        record = json.loads(raw)
    except ValueError:
        return Line(raw, "error")
    if not isinstance(record, dict):
        return Line(raw, "error")
    level = str(record.get("level", "info"))
    if "outcome" in record and record.get("video_id"):
        return Line(f"{str(record['video_id'])[:SHORT_ID]} {record.get('message', '')}", level)
    if level in SERIOUS:
        return Line(_with_fields(str(record.get("message", "")), record), level)
    return None


def _with_fields(message: str, record: dict[str, Any]) -> str:
    fields = " ".join(f"{name}={value}" for name, value in record.items() if name not in HIDDEN and value is not None)
    return f"{message} {fields}".rstrip()
