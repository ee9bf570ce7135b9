"""What the commands on videos do, from `upload` to `delete`: ask the API, show the answer, end with an exit code."""

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import typer

from anb_cli import downloading
from anb_cli.choosing import ENOUGH_TO_ACT, whole_id
from anb_cli.client import Api
from anb_cli.connection import connection
from anb_cli.errors import CliError, Exit, OutputLost, VideoFailed, WrongUse
from anb_cli.following import Update, follow
from anb_cli.sources import DASH, check, opened, shown_name
from anb_cli.terminal import Bar, Bars, Terminal, size_text
from anb_cli.text import readable
from anb_core.domain.status import Status

WATCHED_AT_A_TIME = 8
"""So many event streams are kept open; workers take videos in order, so the others have nothing to tell yet."""


@contextmanager
def api() -> Iterator[Api]:
    """The deployment that the environment or the nearest folder names."""
    with Api(connection(os.environ)) as there:
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
        self._ended: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def begin(self, video_id: str, bar: Bar) -> None:
        """Follow a video, without waiting for it."""
        # Daemons: Ctrl-C ends the command, not the work, and no thread may hold it up.
        thread = threading.Thread(target=self._follow, args=(video_id, bar), daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait(self) -> None:
        """Return when nothing more happens to any of them.

        Raises:
            OutputLost: nobody reads any more what is told of them.
        """
        for _ in self._threads:
            lost = self._ended.get()
            if lost is not None:
                raise lost

    def _follow(self, video_id: str, bar: Bar) -> None:
        lost: Exception | None = None
        with self._places:
            try:
                for update in follow(self._api, video_id):
                    bar.update(update)
                    if self._terminal.as_json:
                        self._terminal.record(_update_record(video_id, update))
                    if update.final and update.status is not Status.PROCESSED:
                        self._tally.failed(VideoFailed(_ending(video_id, update)), video_id=video_id)
            except OutputLost as error:
                lost = error
            except CliError as error:
                self._tally.failed(error, video_id=video_id)
            except Exception as error:  # noqa: BLE001 - raised where it is shown as a sentence
                lost = error
            finally:
                self._ended.put(lost)


def upload(files: Sequence[Path], *, title: str | None, edit: dict[str, Any], stay: bool, as_json: bool) -> None:
    """Upload files one after the other; with `stay`, follow the work on the first ones meanwhile."""
    if title is not None and len(files) > 1:
        raise WrongUse("--title names one video: leave it out to name each after its file, or upload them one by one.")
    title = given_title(title)
    for file in files:
        check(file)
    terminal = Terminal(as_json=as_json)
    tally = Tally(terminal)
    with api() as there, terminal.progress() as bars:
        following = Watch(there, terminal, tally)
        for file in files:
            name = shown_name(file)
            bar = bars.add(name)
            try:
                receipt = send(there, file, title, edit, bar)
            except OutputLost:
                raise
            except CliError as error:
                tally.failed(error, file=str(file))
                continue
            terminal.result(f"{receipt['video_id']}  {name}", {"file": str(file), **receipt})
            if stay:
                bar.restart()
                following.begin(receipt["video_id"], bar)
        following.wait()
    tally.end()


def given_title(title: str | None) -> str | None:
    """The title of the command line; None where it is left to the file's name.

    Raises:
        WrongUse: it is no text.
    """
    try:
        return title.encode(errors="surrogateescape").decode() if title else None
    except UnicodeError as error:
        raise WrongUse("--title holds bytes that are no UTF-8: write it in another way.") from error


def send(there: Api, file: Path, title: str | None, edit: dict[str, Any], bar: Bar) -> dict[str, Any]:
    """Upload one file under a bar, by default titled after its name; the receipt."""
    with opened(file, lambda done: bar.bytes("reading", done, None)) as source:
        return there.upload(
            source,
            title=title or source.title,
            edit=edit,
            on_bytes=lambda done: bar.bytes("uploading", done, source.size),
            on_wait=lambda seconds, why: bar.wait(seconds, str(why)),
        )


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
    terminal.videos(videos)
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
    if as_json and output == DASH:
        raise WrongUse("--json and -o - would both write to stdout: name a file with -o.")
    with api() as there:
        video = there.get(whole_id(there, given))
        with terminal.progress() as bars:
            path = fetch(there, video, output, bars)
    if path == DASH:
        return
    size = video["result"]["size"]
    text = f"{readable(str(path))}  {size_text(size)}"
    terminal.result(text, {"video_id": video["video_id"], "path": str(path), **video["result"]})


def fetch(there: Api, video: dict[str, Any], output: Path | None, bars: Bars) -> Path:
    """Fetch the result of a video under a bar; where it is.

    Raises:
        VideoFailed: there is none.
    """
    if video["result"] is None:
        raise VideoFailed(f"The video {video['video_id']} is {video['status']}: there is nothing to download.")
    path = downloading.target(video, output)
    bar = bars.add("stdout" if path == DASH else readable(path.name))
    total = video["result"]["size"]
    downloading.download(there, video, path, on_bytes=lambda done: bar.bytes("downloading", done, total))
    return path


def command(name: Literal["cancel", "retry", "delete"], ids: Sequence[str], *, as_json: bool) -> None:
    """Do one thing to several videos, or to none of them when one of the ids is not good enough."""
    terminal = Terminal(as_json=as_json)
    tally = Tally(terminal)
    with api() as there:
        act = _action(there, name)
        chosen = list(_whole_ids(there, ids, tally, enough=ENOUGH_TO_ACT))
        tally.end()
        for video_id in chosen:
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


def _whole_ids(there: Api, given: Sequence[str], tally: Tally, *, enough: int = 1) -> Iterator[str]:
    """Each video once, however often it was named."""
    known: set[str] = set()
    for beginning in given:
        try:
            video_id = whole_id(there, beginning, enough=enough)
        except CliError as error:
            tally.failed(error, video_id=beginning)
            continue
        if video_id not in known:
            known.add(video_id)
            yield video_id


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
