"""The rows of the table dead_letters: the queries that read rows, add a row, and resolve the rows of a video."""

from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from anb_core.adapters.database.engine import decoding, insert
from anb_core.adapters.database.tables import dead_letters
from anb_core.domain.dead_letters import SHORT_BODY, DeadLetter, Resolution
from anb_core.domain.model import DeadLetterCause

_NAMES = [field.name for field in fields(DeadLetter)]
_SHORT = func.substr(dead_letters.c.body, 1, SHORT_BODY).label("body")

WHOLE = select(*(dead_letters.c[name] for name in _NAMES))
"""Query for dead letters with their whole bodies."""

SHORTENED = select(*(_SHORT if name == "body" else dead_letters.c[name] for name in _NAMES))
"""Query for dead letters with shortened bodies of at most SHORT_BODY characters."""

OPEN = dead_letters.c.resolution.is_(None)
"""SQL condition that is true for an open dead letter."""


def dead_letter_of(row: Row[Any]) -> DeadLetter:
    """Convert a row of the query `WHOLE` or `SHORTENED`.

    Raises:
        Unreadable: `dead_letter_unreadable` if this version of the program can't read a value.
    """
    with decoding("dead_letter_unreadable", f"dead letter {row.id}"):
        values = row._asdict()
        resolution = values["resolution"] and Resolution(values["resolution"])
        return DeadLetter(**values | {"cause": DeadLetterCause(values["cause"]), "resolution": resolution})


def add_dead_letter(connection: Connection, letter: DeadLetter) -> int | None:
    """Add a dead letter. Returns its id, or None if a dead letter for the same message exists already."""
    values = {name: getattr(letter, name) for name in _NAMES if name != "id"}
    added: int | None = connection.scalar(
        insert(connection, dead_letters)
        .values(values)
        .on_conflict_do_nothing(index_elements=[dead_letters.c.message_id])
        .returning(dead_letters.c.id)
    )
    return added


def resolve_open(
    connection: Connection, video_id: str, resolution: Resolution, *, by: str | None, now: datetime
) -> None:
    """Resolve all open dead letters of a locked video."""
    connection.execute(
        update(dead_letters)
        .where(dead_letters.c.video_id == video_id, OPEN)
        .values(resolution=resolution, resolved_at=now, resolved_by=by)
    )
