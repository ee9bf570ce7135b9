"""Formats the list of videos for a terminal: one line per video, always with the video's status."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from os.path import commonprefix
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from anb_cli.choosing import ENOUGH_TO_ACT
from anb_cli.text import clean

STYLES = {
    "uploading": "dim",
    "uploaded": "cyan",
    "processing": "yellow",
    "processed": "green",
    "failed": "red",
    "dead_lettered": "red",
    "cancelled": "dim",
}

HEADINGS = ("ID", "STATUS", "DONE", "UPLOADED", "TITLE")
ID, STATUS, DONE, UPLOADED, TITLE = range(len(HEADINGS))

GAP = "  "
TITLE_ROOM = 12
"""Minimum width of the title column. On narrow terminals, other columns are omitted to reach this width."""

LONGEST_STATUS = max(map(len, STYLES))

_CHOICES = ((ID, STATUS, DONE, UPLOADED, TITLE), (ID, STATUS, DONE, TITLE), (ID, STATUS, TITLE), (ID, STATUS))


def cells(video: dict[str, Any]) -> tuple[str, ...]:
    """Return the cell texts of a video's row, in the order of `HEADINGS`."""
    uploaded = datetime.fromisoformat(video["created_at"]).astimezone()
    return video["video_id"], video["status"], f"{video['progress']:.0%}", f"{uploaded:%Y-%m-%d %H:%M}", video["title"]


def lay_out(videos: Sequence[dict[str, Any]], width: int) -> Iterator[Text]:
    """Yield the heading line and one line per video, each at most `width` columns wide.

    If complete ids leave too little width for titles, ids are shortened to prefixes that are unique in the list.
    """
    rows = [tuple(map(clean, cells(video))) for video in videos]
    shown, columns, widths = _fit(rows, width)
    for number, row in enumerate((HEADINGS, *shown)):
        line = Text(style="bold" if number == 0 else "")
        for column in columns:
            style = STYLES.get(row[STATUS], "") if column == STATUS else ""
            if column == columns[-1]:
                line.append(cut(row[column], widths[column]), style)
            else:
                line.append(set_cell_size(cut(row[column], widths[column]), widths[column]), style).append(GAP)
        yield line


def _fit(
    rows: Sequence[tuple[str, ...]], width: int
) -> tuple[Sequence[tuple[str, ...]], tuple[int, ...], dict[int, int]]:
    """Return the rows, the columns that fit into `width`, and the width of each column."""
    length = _unique_length([row[ID] for row in rows])
    short = [(row[ID][:length], *row[STATUS:]) for row in rows]
    title = min(TITLE_ROOM, _widest(rows, TITLE))
    status = min(LONGEST_STATUS, _widest(rows, STATUS))
    for shown, columns in ((rows, _CHOICES[0]), *((short, columns) for columns in _CHOICES[:-1])):
        widths = {column: _widest(shown, column) for column in columns} | {STATUS: status}
        left = width - sum(widths[column] + len(GAP) for column in columns[:-1])
        if left >= title:
            return shown, columns, widths | {TITLE: left}
    id_width = min(_widest(short, ID), max(1, width - status - len(GAP)))
    return short, _CHOICES[-1], {ID: id_width, STATUS: status}


def _widest(rows: Sequence[tuple[str, ...]], column: int) -> int:
    return max(cell_len(row[column]) for row in (HEADINGS, *rows))


def _unique_length(ids: Sequence[str]) -> int:
    """Return the minimum length at which all prefixes of the ids differ, and every command accepts the prefixes."""
    ordered = sorted(ids)
    shared = max((len(commonprefix(pair)) for pair in pairwise(ordered)), default=0)  # noqa: RUF071 - no paths
    return max(ENOUGH_TO_ACT, shared + 1)


def cut(text: str, width: int) -> str:
    """Return the text, shortened to `width` columns if it is longer."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"
