"""What people and programs see: results on stdout, all else on stderr; control codes in terminals only."""

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.filesize import pick_unit_and_suffix
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

from anb_cli.following import Update
from anb_cli.listing import cells, cut, lay_out
from anb_cli.text import clean

SHORTEST_NAME = 12
"""Columns that the name of a bar has at least."""

SPEED_AFTER = 1.0
"""Seconds after which a speed means something."""


DIGITS = {"B": 0, "kB": 1, "MB": 1, "GB": 2}
"""Digits after the point, by unit."""


def size_text(size: float) -> str:
    """A number of bytes for people."""
    unit, name = pick_unit_and_suffix(int(size), [*DIGITS], 1000)
    return f"{size / unit:.{DIGITS[name]}f} {name}"


class Terminal:
    """Where a command writes. With `as_json`, stdout gets one JSON object a line and nothing else."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        # Rich would take FORCE_COLOR for a terminal, and what is no terminal gets no control codes.
        self.out = Console(highlight=False, soft_wrap=True, force_terminal=sys.stdout.isatty())
        self.err = Console(highlight=False, soft_wrap=True, stderr=True, force_terminal=sys.stderr.isatty())

    def result(self, text: str, record: dict[str, Any]) -> None:
        """What was asked for: the text for people, the record for programs."""
        if self.as_json:
            self.record(record)
            return
        # Where both go to a terminal, it is the same one: the bars on stderr have to know what is written above them.
        where = self.err if self.out.is_terminal and self.err.is_terminal else self.out
        where.print(Text(clean(text)))

    def record(self, record: dict[str, Any]) -> None:
        """One line for programs."""
        self.out.file.write(json.dumps(record) + "\n")
        self.out.file.flush()

    def note(self, text: str, style: str = "") -> None:
        """Something beside the result."""
        self.err.print(Text("\n".join(map(clean, text.split("\n"))), style))

    def videos(self, videos: Sequence[dict[str, Any]]) -> None:
        """The list: as wide as the terminal; elsewhere a line a video with tabs between, as `cut` and `awk` like it."""
        if not self.out.is_terminal:
            for video in videos:
                self.out.file.write("\t".join(map(clean, cells(video))) + "\n")
            return
        # Rich would take a dumb terminal for one of 80 columns.
        for line in lay_out(videos, shutil.get_terminal_size().columns):
            self.out.print(line)

    @contextmanager
    def progress(self) -> Iterator["Bars"]:
        """Bars on stderr while the block runs; without a terminal, a line at each change that matters."""
        columns = (
            SpinnerColumn(finished_text=" "),
            # Without markup: a name in brackets is only a name.
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
    """The bars of one command."""

    _terminal: Terminal
    _progress: Progress

    def add(self, name: str) -> "Bar":
        """A bar for one file or video."""
        name = clean(name)
        shown = cut(name, max(SHORTEST_NAME, self._terminal.err.width // 4))
        task = self._progress.add_task(shown, total=1.0, note="")
        return Bar(self._terminal, self._progress, task, name)


@dataclass(slots=True)
class Bar:
    """One file's way up or down, or the work on one video."""

    _terminal: Terminal
    _progress: Progress
    _task: TaskID
    _name: str
    _said: str = ""

    def bytes(self, what: str, done: int, total: int | None) -> None:
        """So many bytes have been moved, of `total` if that is known."""
        if total is None:
            if not self._progress.disable:
                self._show("", 0.0, f"{what} {size_text(done)}")
            return
        task = self._progress.tasks[self._task]
        # The speed of the first moment is that of filling buffers.
        rate = f", {size_text(task.speed * total)}/s" if task.speed and (task.elapsed or 0) > SPEED_AFTER else ""
        note = f"{what} {size_text(done)} of {size_text(total)}{rate}"
        self._show(f"{what} {size_text(total)}", done / total if total else 1.0, note)

    def update(self, update: Update) -> None:
        """The work has come so far."""
        status = update.status or "deleted"
        note = f"{status}: {clean(update.error)}" if update.error else str(status)
        self._show(note, 1.0 if status == "processed" else update.progress, note)

    def wait(self, seconds: float, why: str) -> None:
        """Nothing moves for so long."""
        self._show(text := f"waiting {seconds:.0f} s to send it again: {clean(why)}", 0.0, text)

    def restart(self) -> None:
        """From bytes to work: the bar begins anew."""
        self._progress.reset(self._task, note="")

    def _show(self, said: str, done: float, note: str) -> None:
        self._progress.update(self._task, completed=done, note=note)
        if self._progress.disable and said != self._said:
            self._terminal.note(f"{self._name}: {said}")
        self._said = said
