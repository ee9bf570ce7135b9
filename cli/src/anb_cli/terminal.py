"""Writes a command's output: results to stdout, messages and progress bars to stderr.

Control codes, for example for colors, are written only if the stream is a terminal.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.console import Console
from rich.filesize import pick_unit_and_suffix
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

from anb_cli.following import Update
from anb_cli.listing import cells, cut, lay_out
from anb_cli.text import clean

SHORTEST_NAME = 12
"""Minimum width of a progress bar's name, in columns."""

SPEED_AFTER = 1.0
"""Seconds from the start of a transfer until the progress bar shows the speed."""

DIGITS = {"B": 0, "kB": 1, "MB": 1, "GB": 2}
"""Number of digits after the decimal point, by unit."""


def size_text(size: float) -> str:
    """Return a number of bytes as human-readable text, such as "1.5 MB"."""
    unit, name = pick_unit_and_suffix(int(size), [*DIGITS], 1000)
    return f"{size / unit:.{DIGITS[name]}f} {name}"


class Terminal:
    """The output of a command. With `as_json`, the command writes only JSON to stdout, one object per line."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        # Ignore FORCE_COLOR, which would make Rich write control codes to files and pipes too.
        self.out = Console(highlight=False, soft_wrap=True, force_terminal=sys.stdout.isatty())
        self.err = Console(highlight=False, soft_wrap=True, stderr=True, force_terminal=sys.stderr.isatty())

    def result(self, text: str, record: dict[str, Any]) -> None:
        """Write a result to stdout. With `as_json`, write `record` as JSON. Otherwise, write `text`."""
        if self.as_json:
            self.record(record)
            return
        # If stdout and stderr share a terminal, write to the console of the progress bars, which redraws the bars.
        console = self.err if self.out.is_terminal and self.err.is_terminal else self.out
        console.print(Text(clean(text)))

    def record(self, record: dict[str, Any]) -> None:
        """Write one line of JSON to stdout."""
        self.out.file.write(json.dumps(record) + "\n")
        self.out.file.flush()

    def note(self, text: str, style: str = "") -> None:
        """Write a message to stderr. `style` is a Rich style."""
        self.err.print(Text("\n".join(map(clean, text.split("\n"))), style))

    def videos(self, videos: Sequence[dict[str, Any]]) -> None:
        """Write the list of videos to stdout, as a table on a terminal and as tab-separated lines elsewhere."""
        self.table([cells(video) for video in videos], partial(lay_out, videos))

    def table(self, rows: Sequence[Sequence[str]], lay_out: Callable[[int], Iterable[Text]]) -> None:
        """Write a table to stdout: the lines of `lay_out(width)` for a terminal, else `rows` as tab-separated lines."""
        if not self.out.is_terminal:
            for row in rows:
                self.out.file.write("\t".join(map(clean, row)) + "\n")
            return
        # Pass the terminal's width, because Rich assumes 80 columns if TERM=dumb.
        self.lines(lay_out(shutil.get_terminal_size().columns))

    def lines(self, lines: Iterable[Text | str]) -> None:
        """Write lines to stdout."""
        for line in lines:
            self.out.print(Text(clean(line)) if isinstance(line, str) else line)

    @contextmanager
    def progress(self) -> Iterator["Bars"]:
        """Show progress bars on stderr during the `with` block. If stderr is no terminal, write one line per change."""
        columns = (
            SpinnerColumn(finished_text=" "),
            # Turn off markup, so that Rich does not read brackets in a file name as a style.
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=max(5, min(30, self.err.width // 5))),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[note]}", markup=False),
        )
        plain = not self.err.is_terminal or self.err.is_dumb_terminal
        with Progress(*columns, console=self.err, disable=plain) as progress:
            yield Bars(self, progress)


@dataclass(slots=True)
class Bars:
    """The progress bars of one command."""

    _terminal: Terminal
    _progress: Progress

    def add(self, name: str) -> "Bar":
        """Add a bar for one file or video."""
        name = clean(name)
        shown = cut(name, max(SHORTEST_NAME, self._terminal.err.width // 4))
        task = self._progress.add_task(shown, total=1.0, note="")
        return Bar(self._terminal, self._progress, task, name)


@dataclass(slots=True)
class Bar:
    """The progress bar of one upload, one download or one job."""

    _terminal: Terminal
    _progress: Progress
    _task: TaskID
    _name: str
    _last_line: str = ""

    def bytes(self, what: str, done: int, total: int | None) -> None:
        """Show that `done` of `total` bytes were transferred. `what` is a verb, such as "uploading".

        `total` is None if the size is unknown.
        """
        if total is None:
            if not self._progress.disable:
                self._show("", 0.0, f"{what} {size_text(done)}")
            return
        task = self._progress.tasks[self._task]
        # Do not show the speed at first, because buffers make the first bytes look too fast.
        rate = f", {size_text(task.speed * total)}/s" if task.speed and (task.elapsed or 0) > SPEED_AFTER else ""
        note = f"{what} {size_text(done)} of {size_text(total)}{rate}"
        self._show(f"{what} {size_text(total)}", done / total if total else 1.0, note)

    def update(self, update: Update) -> None:
        """Show the status and progress of a job."""
        status = update.status or "deleted"
        note = f"{status}: {clean(update.error)}" if update.error else str(status)
        self._show(note, 1.0 if status == "processed" else update.progress, note)

    def count(self, done: int, total: int) -> None:
        """Show the progress of a command: `done` of `total` objects."""
        self._show(text := f"{done} of {total}", done / total if total else 1.0, text)

    def tell(self, text: str) -> None:
        """Show how far a command is whose end is unknown."""
        self._show(text, 0.0, text)

    def wait(self, seconds: float, why: str) -> None:
        """Show that the upload will be sent again in `seconds` seconds."""
        self._show(text := f"waiting {seconds:.0f} s to send it again: {clean(why)}", 0.0, text)

    def restart(self) -> None:
        """Reset the bar for the next phase, such as the processing after the upload."""
        self._progress.reset(self._task, note="")

    def _show(self, line: str, done: float, note: str) -> None:
        """Fill the bar to `done` (0 to 1), with `note` beside it. Without a terminal, write each new `line`."""
        self._progress.update(self._task, completed=done, note=note)
        if self._progress.disable and line != self._last_line:
            self._terminal.note(f"{self._name}: {line}")
        self._last_line = line
