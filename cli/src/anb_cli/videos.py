"""What the commands on videos do: ask the API, show what it says, end with the right exit code."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import typer

from anb_cli import downloading
from anb_cli.client import Api
from anb_cli.connection import connection
from anb_cli.errors import CliError, Exit, VideoFailed, WrongUse
from anb_cli.following import Update, follow
from anb_cli.terminal import Bar, Bars, Terminal, size_text
from anb_core.domain.status import Status

WATCHED_AT_A_TIME = 8
"""So many event streams are kept open; workers take videos in order, so the others have nothing to tell yet."""


@contextmanager
def api() -> Iterator[Api]:
    """The deployment that the environment or the nearest folder names."""
    with Api(connection(os.environ, Path.cwd())) as there:
        yield there


def edit_of(*, start: float | None, length: float | None, intro: bool, outro: bool, watermark: bool) -> dict[str, Any]:
    """The edit as the API takes it, with only what differs from its defaults."""
    trim = {name: value for name, value in (("start", start), ("length", length)) if value is not None}
    steps = {"intro": intro, "outro": outro, "watermark": watermark}
    return ({"trim": trim} if trim else {}) | {name: {"enabled": False} for name, wanted in steps.items() if not wanted}


class Tally:
    """Lets the others go on when one fails, says why it did, and ends with the exit code of the first failure."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._lock = threading.Lock()
        self._exit: Exit | None = None

    def failed(self, error: CliError, **subject: str) -> None:
        """Note a failure. `subject` says what of, for programs."""
        with self._lock:
            self._exit = self._exit or error.exit
            self._terminal.note(f"anb: {error}", "red")
            if self._terminal.as_json:
                self._terminal.record({**subject, "error": error.as_json()})

    def end(self) -> None:
        """End the command."""
        if self._exit is not None:
            raise typer.Exit(self._exit)


class Watch:
    """Follows several videos at a time, each in a thread of its own."""

    def __init__(self, there: Api, terminal: Terminal, tally: Tally) -> None:
        self._api = there
        self._terminal = terminal
        self._tally = tally
        self._places = threading.Semaphore(WATCHED_AT_A_TIME)
        self._threads: list[threading.Thread] = []

    def begin(self, video_id: str, bar: Bar) -> None:
        """Follow a video, without waiting for it."""
        # Daemons: Ctrl-C ends the command, not the work, and no thread may hold it up.
        thread = threading.Thread(target=self._follow, args=(video_id, bar), daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait(self) -> None:
        """Return when nothing more happens to any of them."""
        for thread in self._threads:
            thread.join()

    def _follow(self, video_id: str, bar: Bar) -> None:
        with self._places:
            try:
                for update in follow(self._api, video_id):
                    bar.update(update)
                    if self._terminal.as_json:
                        self._terminal.record(_update_record(video_id, update))
                    if update.final and update.status is not Status.PROCESSED:
                        raise VideoFailed(_ending(video_id, update))
            except CliError as error:
                self._tally.failed(error, video_id=video_id)


def upload(files: Sequence[Path], *, title: str | None, edit: dict[str, Any], stay: bool, as_json: bool) -> None:
    """Upload files one after the other; with `stay`, follow the work on the first ones meanwhile."""
    if title is not None and len(files) > 1:
        raise WrongUse("--title names one video: leave it out to name each after its file, or upload them one by one.")
    terminal = Terminal(as_json=as_json)
    tally = Tally(terminal)
    with api() as there, terminal.progress() as bars:
        following = Watch(there, terminal, tally)
        for file in files:
            bar = bars.add(file.name)
            try:
                receipt = send(there, file, title or file.stem, edit, bar)
            except CliError as error:
                tally.failed(error, file=str(file))
                continue
            terminal.result(f"{receipt['video_id']}  {file.name}", {"file": str(file), **receipt})
            if stay:
                bar.restart()
                following.begin(receipt["video_id"], bar)
        following.wait()
    tally.end()


def send(there: Api, file: Path, title: str, edit: dict[str, Any], bar: Bar) -> dict[str, Any]:
    """Upload one file under a bar; the receipt."""
    total = file.stat().st_size
    return there.upload(file, title=title, edit=edit, on_bytes=lambda done: bar.bytes("uploading", done, total))


def show_list(statuses: Sequence[str], *, limit: int, as_json: bool) -> None:
    """List videos."""
    for status in statuses:
        if status not in set(Status):
            raise WrongUse(f"There is no status {status!r}, only {', '.join(Status)}.")
    terminal = Terminal(as_json=as_json)
    with api() as there:
        videos = list(there.videos(statuses, limit=limit))
    if as_json:
        for video in videos:
            terminal.record(video)
        return
    terminal.table(
        ("ID", "STATUS", "DONE", "UPLOADED", "TITLE"),
        [
            (
                video["video_id"],
                video["status"],
                f"{video['progress']:.0%}",
                f"{datetime.fromisoformat(video['created_at']).astimezone():%Y-%m-%d %H:%M}",
                video["title"],
            )
            for video in videos
        ],
    )
    if not videos:
        terminal.note("No videos.")


def watch(ids: Sequence[str], *, as_json: bool) -> None:
    """Follow videos until nothing more happens to them."""
    terminal = Terminal(as_json=as_json)
    tally = Tally(terminal)
    with api() as there, terminal.progress() as bars:
        following = Watch(there, terminal, tally)
        for video_id in _whole_ids(there, ids, tally):
            following.begin(video_id, bars.add(video_id))
        following.wait()
    tally.end()


def download(given: str, output: Path | None, *, as_json: bool) -> None:
    """Fetch a finished video."""
    terminal = Terminal(as_json=as_json)
    with api() as there:
        video = there.get(there.whole_id(given))
        with terminal.progress() as bars:
            path = fetch(there, video, output, bars)
    size = video["result"]["size"]
    terminal.result(f"{path}  {size_text(size)}", {"video_id": video["video_id"], "path": str(path), **video["result"]})


def fetch(there: Api, video: dict[str, Any], output: Path | None, bars: Bars) -> Path:
    """Fetch the result of a video under a bar; where it is.

    Raises:
        VideoFailed: there is none.
    """
    if video["result"] is None:
        raise VideoFailed(f"The video {video['video_id']} is {video['status']}: there is nothing to download.")
    path = downloading.target(video, output)
    bar = bars.add(path.name)
    total = video["result"]["size"]
    downloading.download(there, video, path, on_bytes=lambda done: bar.bytes("downloading", done, total))
    return path


def command(name: Literal["cancel", "retry", "delete"], ids: Sequence[str], *, as_json: bool) -> None:
    """Do one thing to several videos."""
    terminal = Terminal(as_json=as_json)
    tally = Tally(terminal)
    with api() as there:
        act = _action(there, name)
        for video_id in _whole_ids(there, ids, tally):
            try:
                video = act(video_id)
            except CliError as error:
                tally.failed(error, video_id=video_id)
            else:
                terminal.result(f"{video_id}  {video['status']}", video)
    tally.end()


def _action(there: Api, name: Literal["cancel", "retry", "delete"]) -> Callable[[str], dict[str, Any]]:
    def delete(video_id: str) -> dict[str, Any]:
        there.delete(video_id)
        return {"video_id": video_id, "status": "deleted"}

    match name:
        case "cancel":
            return there.cancel
        case "retry":
            return there.retry
        case "delete":
            return delete


def _whole_ids(there: Api, given: Sequence[str], tally: Tally) -> Iterator[str]:
    for beginning in given:
        try:
            yield there.whole_id(beginning)
        except CliError as error:
            tally.failed(error, video_id=beginning)


def _update_record(video_id: str, update: Update) -> dict[str, Any]:
    return {
        "video_id": video_id,
        "status": update.status or "deleted",
        "progress": update.progress,
        "error": update.error,
    }


def _ending(video_id: str, update: Update) -> str:
    why = f": {update.error}" if update.error else ""
    return f"The video {video_id} is {update.status or 'deleted'}{why}"
