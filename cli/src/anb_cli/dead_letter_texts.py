"""Formats dead letters for a terminal: a table of many dead letters, and the details of one dead letter."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.text import Text

from anb_cli.listing import GAP, draw, unique_length, widest
from anb_cli.text import clean, escaped

HEADINGS = ("ID", "WHEN", "STATE", "CAUSE", "CODE", "VIDEO", "OWNER", "ERROR")
ID, WHEN, STATE, CAUSE, CODE, VIDEO, OWNER, ERROR = range(len(HEADINGS))

ATTEMPT_HEADINGS = ("STARTED", "TOOK", "WORKER", "ENDING", "ERROR")

LONGEST_CELL = 20
"""Maximum width of a cell, in characters. Video ids may be wider. The error may fill the rest of the line."""

ERROR_ROOM = 12
"""Minimum width of the error column. On narrow terminals, the columns of LEFT_OUT are omitted to reach this width."""

LEFT_OUT = (OWNER, CODE, CAUSE, WHEN, VIDEO, STATE)
"""The columns that are omitted if the terminal is too narrow, the least important one first."""

SHOWN_BODY = 4096
"""Maximum number of bytes of a message's body that are shown."""

WITH_ZONE = "%Y-%m-%d %H:%M:%S %Z"
"""Format of local times in outputs that also show sentences of the API. The zone is shown, because the API's sentences
have times in UTC."""

STYLES = {"open": "red"}


def cells(letter: dict[str, Any]) -> tuple[str, ...]:
    """Return the cell texts of a dead letter's row, in the order of `HEADINGS`."""
    return (
        str(letter["id"]),
        _time(letter["created_at"], "%Y-%m-%d %H:%M"),
        letter["resolution"] or "open",
        letter["cause"],
        letter["code"] or "",
        letter["video_id"] or "",
        letter["owner"] or "",
        letter["detail"],
    )


def lay_out(letters: Sequence[dict[str, Any]], width: int) -> Iterator[Text]:
    """Yield the heading line and one line per dead letter.

    The lines have at most `width` columns. If `width` is less than 18, they may be wider.

    The column STATE is shown only if at least one dead letter is resolved.
    On narrow terminals, video ids are shortened, and times have no year.
    """
    rows = [tuple(map(clean, cells(letter))) for letter in letters]
    shown, widths = _fit(rows, width)
    return draw(HEADINGS, shown, widths, lambda row, column: STYLES.get(row[STATE], "") if column == STATE else "")


def _fit(rows: Sequence[tuple[str, ...]], width: int) -> tuple[Sequence[tuple[str, ...]], dict[int, int]]:
    """Return the rows, and the widths of the columns that fit into `width`."""
    length = unique_length([*{row[VIDEO] for row in rows if row[VIDEO]}])
    year = len("2026-")
    short = [(row[ID], row[WHEN][year:], *row[STATE:VIDEO], row[VIDEO][:length], *row[OWNER:]) for row in rows]
    all_open = all(row[STATE] == "open" for row in rows)
    columns = [column for column in range(ERROR) if column != STATE or not all_open]
    widths = _widths(rows, columns, width)
    if widths[ERROR] >= ERROR_ROOM:
        return rows, widths
    for column in (None, *LEFT_OUT):
        columns = [kept for kept in columns if kept != column]
        widths = _widths(short, columns, width)
        if widths[ERROR] >= ERROR_ROOM:
            break
    return short, widths


def _widths(rows: Sequence[tuple[str, ...]], columns: Sequence[int], width: int) -> dict[int, int]:
    """Return the widths of the columns. The error column gets the rest of `width`, or 1 if nothing is left."""
    widths = {column: min(LONGEST_CELL, widest((HEADINGS, *rows), column)) for column in columns}
    if VIDEO in widths:
        widths[VIDEO] = widest((HEADINGS, *rows), VIDEO)
    left = width - sum(widths.values()) - len(GAP) * len(widths)
    return widths | {ERROR: max(1, left)}


def describe(letter: dict[str, Any]) -> Iterator[Text | str]:
    """Yield the lines that describe a dead letter, with its attempts, its message, and the next steps for a person."""
    yield f"Dead letter {letter['id']}, {_state(letter)}"
    facts = {
        "since": _time(letter["created_at"], WITH_ZONE),
        "cause": _cause(letter),
        "error": f"{letter['detail']} ({letter['code']})" if letter["code"] else letter["detail"],
        "video": _video(letter),
        "worker": ", version ".join(filter(None, (letter["worker"], letter["version"]))),
        "reason": letter["reason"],
    }
    for name, fact in facts.items():
        if fact:
            yield f"  {name:7} {fact}"
    if letter["error_detail"]:
        yield ""
        yield "Details of the error"
        yield from _indented(letter["error_detail"])
    if letter["attempts"]:
        yield ""
        rows = [tuple(map(clean, _attempt(attempt))) for attempt in letter["attempts"]]
        widths = {column: widest((ATTEMPT_HEADINGS, *rows), column) for column in range(len(ATTEMPT_HEADINGS))}
        yield from draw(ATTEMPT_HEADINGS, rows, widths)
    if letter["body"] is not None:
        yield from _body(letter)
    if letter["resolution"] is None:
        yield ""
        yield from _next_steps(letter)


def _state(letter: dict[str, Any]) -> str:
    if letter["resolution"] is None:
        return "open"
    by = f" by {letter['resolved_by']}" if letter["resolved_by"] else ""
    at = f" at {_time(letter['resolved_at'], WITH_ZONE)}" if letter["resolved_at"] else ""
    return f"{letter['resolution']}{by}{at}"


def _cause(letter: dict[str, Any]) -> str:
    if letter["failures"] is None or letter["lost"] is None:
        return str(letter["cause"])
    return f"{letter['cause']} (failures: {letter['failures']}, losses: {letter['lost']})"


def _video(letter: dict[str, Any]) -> str:
    owner = f" of {letter['owner']}" if letter["owner"] else ""
    generation = "" if letter["generation"] is None else f", generation {letter['generation']}"
    return f"{letter['video_id']}{owner}{generation}" if letter["video_id"] else ""


def _attempt(attempt: dict[str, Any]) -> tuple[str, ...]:
    error = attempt["error"]
    took = ""
    if attempt["ended_at"]:
        duration = datetime.fromisoformat(attempt["ended_at"]) - datetime.fromisoformat(attempt["started_at"])
        took = f"{duration.total_seconds():.1f} s"
    return (
        _time(attempt["started_at"]),
        took,
        attempt["worker"],
        attempt["ending"] or "",
        f"{error['message']} ({error['code']})" if error else "",
    )


def _body(letter: dict[str, Any]) -> Iterator[str]:
    body = letter["body"].encode(errors="replace")
    size = len(body) if letter["body_bytes"] is None else letter["body_bytes"]
    message = f"message {letter['message_id']}" if letter["message_id"] else "message"
    yield ""
    yield f"Body of {message}, {size} bytes"
    yield from _indented(body[:SHOWN_BODY].decode(errors="ignore"))
    if size > SHOWN_BODY:
        yield f"  ... and {size - SHOWN_BODY} more bytes, which `anb dlq show {letter['id']} --json` shows"


def _next_steps(letter: dict[str, Any]) -> Iterator[str]:
    if letter["video_id"]:
        yield f"Once the cause is removed:   anb dlq redrive {letter['id']}"
        yield f"If nobody needs the video:   anb dlq discard {letter['id']} --reason TEXT"
        yield f"Where the video is now:      anb why {letter['video_id']}"
    else:
        yield f"It has no video to redrive:  anb dlq discard {letter['id']} --reason TEXT"


def _indented(text: str) -> Iterator[str]:
    """Yield the indented lines of an untrusted text. Control characters are replaced by visible escapes."""
    return (f"  {escaped(line)}" for line in text.split("\n"))


def _time(time: str, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    return f"{datetime.fromisoformat(time).astimezone():{form}}"
