"""What of the children's logs a person sees in `anb up`: a line a job, and whatever went wrong. Pure."""

import json
from dataclasses import dataclass
from typing import Any

SERIOUS = frozenset({"warning", "error", "critical"})

HIDDEN = frozenset(
    {"attempt_id", "exception", "fence", "level", "logger", "message", "message_id", "outcome", "steps", "timestamp"}
)
"""Fields of a log line that are shown in another place, or only in its file."""

SHORT_ID = 8


@dataclass(frozen=True, slots=True)
class Line:
    """One line for a person."""

    text: str
    level: str


def readable(raw: str) -> Line | None:
    """The line for a person, None where there is nothing to see. What is not JSON is a last cry: it is shown."""
    if not raw.strip():
        return None
    try:
        said = json.loads(raw)
    except ValueError:
        return Line(raw, "error")
    if not isinstance(said, dict):
        return Line(raw, "error")
    level = str(said.get("level", "info"))
    if "outcome" in said and said.get("video_id"):
        return Line(f"{str(said['video_id'])[:SHORT_ID]} {said.get('message', '')}", level)
    if level in SERIOUS:
        return Line(_with_fields(str(said.get("message", "")), said), level)
    return None


def _with_fields(message: str, said: dict[str, Any]) -> str:
    fields = " ".join(f"{name}={value}" for name, value in said.items() if name not in HIDDEN)
    return f"{message} {fields}".rstrip()
