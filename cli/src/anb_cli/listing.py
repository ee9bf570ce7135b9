"""Formats the list of videos for a terminal: one line per video, always with the video's status."""

from collections.abc import Callable, Iterator, Mapping, Sequence
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

_CHOICES = ((ID, STATUS, DONE, UPLOADED, TITLE), (ID, STATUS, DONE, TITLE), (ID, STATUS, TITLE))


def cells(video: dict[str, Any]) -> tuple[str, ...]:
    """Return the cell texts of a video's row, in the order of `HEADINGS`."""
    uploaded = datetime.fromisoformat(video["created_at"]).astimezone()
    return video["video_id"], video["status"], f"{video['progress']:.0%}", f"{uploaded:%Y-%m-%d %H:%M}", video["title"]


def lay_out(videos: Sequence[dict[str, Any]], width: int) -> Iterator[Text]:
    """Yield the heading line and one line per video, each at most `width` columns wide.

    If complete ids leave too little width for titles, ids are shortened to prefixes that are unique in the list.
    """
    rows = [tuple(map(clean, cells(video))) for video in videos]
    shown, widths = _fit(rows, width)
    return draw(HEADINGS, shown, widths, lambda row, column: STYLES.get(row[STATUS], "") if column == STATUS else "")


def draw(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: Mapping[int, int],
    style: Callable[[Sequence[str], int], str] = lambda _row, _column: "",
) -> Iterator[Text]:
    """Yield the heading line and one line per row. `widths` are the widths of the shown columns, in their order.

    `style(row, column)` is the Rich style of a cell.
    """
    last = list(widths)[-1]
    for number, row in enumerate((headings, *rows)):
        line = Text(style="bold" if number == 0 else "")
        for column, width in widths.items():
            text = cut(row[column], width)
            line.append(text if column == last else set_cell_size(text, width) + GAP, style(row, column))
        yield line


def _fit(rows: Sequence[tuple[str, ...]], width: int) -> tuple[Sequence[tuple[str, ...]], dict[int, int]]:
    """Return the rows, and the widths of the columns that fit into `width`."""
    length = unique_length([row[ID] for row in rows])
    short = [(row[ID][:length], *row[STATUS:]) for row in rows]
    title = min(TITLE_ROOM, _widest(rows, TITLE))
    status = min(LONGEST_STATUS, _widest(rows, STATUS))
    for shown, columns in ((rows, _CHOICES[0]), *((short, columns) for columns in _CHOICES)):
        widths = {column: status if column == STATUS else _widest(shown, column) for column in columns[:-1]}
        left = width - sum(widths.values()) - len(GAP) * len(widths)
        if left >= title:
            return shown, widths | {TITLE: left}
    id_width = min(_widest(short, ID), max(1, width - status - len(GAP)))
    return short, {ID: id_width, STATUS: status}


def _widest(rows: Sequence[tuple[str, ...]], column: int) -> int:
    return widest((HEADINGS, *rows), column)


def widest(rows: Sequence[Sequence[str]], column: int) -> int:
    """Return the width of the widest cell of a column."""
    return max(cell_len(row[column]) for row in rows)


def unique_length(ids: Sequence[str]) -> int:
    """Return how many characters of each id have to be shown.

    Prefixes of this length all differ, and every command accepts a prefix of this length.
    """
    ordered = sorted(ids)
    shared = max((len(commonprefix(pair)) for pair in pairwise(ordered)), default=0)  # noqa: RUF071 - no paths
    return max(ENOUGH_TO_ACT, shared + 1)


def cut(text: str, width: int) -> str:
    """Return the text, shortened to `width` columns if it is longer."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"
