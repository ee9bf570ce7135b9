"""The commands on videos, from `upload` to `delete`. Commands call the API, print results and set the exit code."""

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
from anb_cli.times import process_after_of
from anb_core.domain.status import Status

WATCHED_AT_A_TIME = 8
"""Maximum number of open event streams. The other videos wait for a free stream.

Workers process the videos in order, so these other videos do not change yet.
"""

HINT = "`anb why {video_id}` says what happened. An operator sees more with `anb dlq list`."
"""What the user can do if a video is dead-lettered."""


@contextmanager
def connect() -> Iterator[Api]:
    """Open an API client for the deployment that the environment or the nearest `.anb` folder names."""
    with Api(connection(os.environ)) as api:
        yield api


def edit_of(*, start: float | None, length: float | None, intro: bool, outro: bool, watermark: bool) -> dict[str, Any]:
    """Return the edit for the API, without values that equal the defaults. `start` and `length` are in seconds."""
    trim = {name: value for name, value in (("start", start), ("length", length)) if value is not None}
    steps = {"intro": intro, "outro": outro, "watermark": watermark}
    disabled = {name: {"enabled": False} for name, enabled in steps.items() if not enabled}
    return ({"trim": trim} if trim else {}) | disabled


class Failures:
    """Collects the failures of a command on several videos. The first failure decides the command's exit code."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._lock = threading.Lock()
        self._exit: Exit | None = None

    def add(self, error: CliError, **subject: str | int) -> None:
        """Print a failure. In the JSON output, `subject` names the file or video, for example `video_id=...`."""
        with self._lock:
            self._exit = self._exit or error.exit
            self._terminal.note(f"anb: {error}", "red")
            if self._terminal.as_json:
                self._terminal.record({**subject, "error": error.as_json()})

    def raise_exit(self) -> None:
        """End the command if there was a failure.

        Raises:
            typer.Exit: there was a failure. It has the exit code of the first failure.
        """
        if self._exit is not None:
            raise typer.Exit(self._exit)


class Watch:
    """Follows several videos at the same time, one thread per video."""

    def __init__(self, api: Api, terminal: Terminal, failures: Failures) -> None:
        self._api = api
        self._terminal = terminal
        self._failures = failures
        self._streams = threading.Semaphore(WATCHED_AT_A_TIME)
        self._threads: list[threading.Thread] = []
        self._ended: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def begin(self, video_id: str, bar: Bar) -> None:
        """Start to follow a video, and return at once."""
        # Use a daemon thread, so that the thread does not delay the exit after Ctrl-C.
        thread = threading.Thread(target=self._follow, args=(video_id, bar), daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait(self) -> None:
        """Wait until the status of every followed video is final.

        Raises:
            OutputLost: stdout was closed.
        """
        for _ in self._threads:
            unhandled = self._ended.get()
            if unhandled is not None:
                raise unhandled

    def _follow(self, video_id: str, bar: Bar) -> None:
        unhandled: Exception | None = None
        with self._streams:
            try:
                for update in follow(self._api, video_id):
                    bar.update(update)
                    if self._terminal.as_json:
                        self._terminal.record(_update_record(video_id, update))
                    if update.final and update.status is not Status.PROCESSED:
                        self._failures.add(VideoFailed(_failure_text(video_id, update)), video_id=video_id)
                    if update.status is Status.DEAD_LETTERED:
                        self._terminal.note(HINT.format(video_id=video_id))
            except OutputLost as error:
                unhandled = error
            except CliError as error:
                self._failures.add(error, video_id=video_id)
            except Exception as error:  # noqa: BLE001 - `wait` raises it in the main thread, which prints a sentence
                unhandled = error
            finally:
                self._ended.put(unhandled)


def upload(
    files: Sequence[Path], *, title: str | None, edit: dict[str, Any], after: str | None, stay: bool, as_json: bool
) -> None:
    """Upload files one after the other. With `stay`, follow each video after its upload until its status is final.

    `after` is the time or delay before which no work on the videos begins, or None.
    """
    if title is not None and len(files) > 1:
        raise WrongUse("--title names one video: leave it out to name each after its file, or upload them one by one.")
    title = given_text("--title", title)
    process_after = None if after is None else process_after_of("after", after)
    for file in files:
        check(file)
    terminal = Terminal(as_json=as_json)
    failures = Failures(terminal)
    with connect() as api, terminal.progress() as bars:
        following = Watch(api, terminal, failures)
        for file in files:
            name = shown_name(file)
            bar = bars.add(name)
            try:
                receipt = send(api, file, title, edit, bar, process_after=process_after)
            except OutputLost:
                raise
            except CliError as error:
                failures.add(error, file=str(file))
                continue
            terminal.result(f"{receipt['video_id']}  {name}", {"file": str(file), **receipt})
            if stay:
                bar.restart()
                following.begin(receipt["video_id"], bar)
        following.wait()
    failures.raise_exit()


def given_text(option: str, text: str | None) -> str | None:
    """Return the text that the user gave as an option, or None if the text is missing or empty.

    Raises:
        WrongUse: the text is not UTF-8.
    """
    try:
        return text.encode(errors="surrogateescape").decode() if text else None
    except UnicodeError as error:
        raise WrongUse(f"{option} is not valid UTF-8: set the terminal to UTF-8 or type another text.") from error


def send(
    api: Api, file: Path, title: str | None, edit: dict[str, Any], bar: Bar, *, process_after: str | None = None
) -> dict[str, Any]:
    """Upload one file with a progress bar, and return the API's receipt. The default title is the file's name."""
    with opened(file, lambda done: bar.bytes("reading", done, None)) as source:
        return api.upload(
            source,
            title=title or source.title,
            edit=edit,
            process_after=process_after,
            on_bytes=lambda done: bar.bytes("uploading", done, source.size),
            on_wait=lambda seconds, why: bar.wait(seconds, str(why)),
        )


def show_list(statuses: Sequence[str], *, limit: int, as_json: bool) -> None:
    """Print the newest `limit` videos whose status is in `statuses`. If `statuses` is empty, any status is accepted."""
    for status in statuses:
        if status not in set(Status):
            raise WrongUse(f"There is no status {status!r}, only {', '.join(Status)}.")
    terminal = Terminal(as_json=as_json)
    with connect() as api:
        videos = list(api.videos(statuses, limit=limit))
    if as_json:
        for video in videos:
            terminal.record(video)
        return
    terminal.videos(videos)
    if not videos:
        terminal.note("No videos.")


def watch(ids: Sequence[str], *, as_json: bool) -> None:
    """Follow videos until every status is final."""
    terminal = Terminal(as_json=as_json)
    failures = Failures(terminal)
    with connect() as api, terminal.progress() as bars:
        following = Watch(api, terminal, failures)
        for video_id in _whole_ids(api, ids, failures):
            following.begin(video_id, bars.add(video_id))
        following.wait()
    failures.raise_exit()


def why(given: str, *, as_json: bool) -> None:
    """Print sentences that say where a video is and what it waits for."""
    terminal = Terminal(as_json=as_json)
    with connect() as api:
        explanation = api.why(whole_id(api, given))
    if as_json:
        terminal.record(explanation)
    else:
        terminal.lines(explanation["sentences"])


def download(given: str, output: Path | None, *, as_json: bool) -> None:
    """Download a video, and print the path of the file. `given` is the video's id, or a unique prefix of the id."""
    terminal = Terminal(as_json=as_json)
    if as_json and output == DASH:
        raise WrongUse("--json and -o - would both write to stdout: name a file with -o.")
    with connect() as api:
        video = api.get(whole_id(api, given))
        with terminal.progress() as bars:
            path = fetch(api, video, output, bars)
    if path == DASH:
        return
    size = video["result"]["size"]
    text = f"{readable(str(path))}  {size_text(size)}"
    terminal.result(text, {"video_id": video["video_id"], "path": str(path), **video["result"]})


def fetch(api: Api, video: dict[str, Any], output: Path | None, bars: Bars) -> Path:
    """Download a video's result with a progress bar. Returns the saved file's path.

    Raises:
        VideoFailed: the video has no result.
    """
    if video["result"] is None:
        raise VideoFailed(f"The video {video['video_id']} is {video['status']}: there is nothing to download.")
    path = downloading.target(video, output)
    bar = bars.add("stdout" if path == DASH else readable(path.name))
    total = video["result"]["size"]
    downloading.download(api, video, path, on_bytes=lambda done: bar.bytes("downloading", done, total))
    return path


def command(name: Literal["cancel", "retry", "delete"], ids: Sequence[str], *, as_json: bool) -> None:
    """Cancel, retry or delete several videos. If any id is not valid, change no video."""
    terminal = Terminal(as_json=as_json)
    failures = Failures(terminal)
    with connect() as api:
        act = _action(api, name)
        chosen = list(_whole_ids(api, ids, failures, enough=ENOUGH_TO_ACT))
        failures.raise_exit()
        for video_id in chosen:
            try:
                video = act(video_id)
            except CliError as error:
                failures.add(error, video_id=video_id)
            else:
                terminal.result(f"{video_id}  {video['status']}", video)
    failures.raise_exit()


def _action(api: Api, name: Literal["cancel", "retry", "delete"]) -> Callable[[str], dict[str, Any]]:
    def delete(video_id: str) -> dict[str, Any]:
        api.delete(video_id)
        return {"video_id": video_id, "status": "deleted"}

    match name:
        case "cancel":
            return api.cancel
        case "retry":
            return api.retry
        case "delete":
            return delete


def _whole_ids(api: Api, prefixes: Sequence[str], failures: Failures, *, enough: int = 1) -> Iterator[str]:
    """Yield the complete id for each prefix, without duplicates. Print a failure for an unknown or ambiguous prefix."""
    yielded: set[str] = set()
    for prefix in prefixes:
        try:
            video_id = whole_id(api, prefix, enough=enough)
        except CliError as error:
            failures.add(error, video_id=prefix)
            continue
        if video_id not in yielded:
            yielded.add(video_id)
            yield video_id


def _update_record(video_id: str, update: Update) -> dict[str, Any]:
    return {
        "video_id": video_id,
        "status": update.status or "deleted",
        "progress": update.progress,
        "error": update.error,
    }


def _failure_text(video_id: str, update: Update) -> str:
    why = f": {update.error}" if update.error else ""
    return f"The video {video_id} is {update.status or 'deleted'}{why}"
