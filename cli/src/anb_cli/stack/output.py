"""Runs `anb up` and prints its output: log lines with time, source and color, or JSON."""

import os
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

from rich.text import Text

from anb_cli.errors import OutputLost
from anb_cli.stack.folder import NAME, Folder, current_folder
from anb_cli.stack.lines import Line, readable
from anb_cli.stack.supervisor import Supervisor
from anb_cli.terminal import Terminal
from anb_cli.text import clean

PROGRAMS = ("anb_api", "anb_worker")
"""Modules that only `anb up` and `anb demo` need, and that only the extra `anb-cli[stack]` installs."""

COLORS = {"warning": "yellow", "error": "red", "critical": "red"}
SOURCE_WIDTH = len("emulator")

READY = """
ANB Video runs at {url}, its data is in {folder}
In another terminal, in this folder:

    anb upload clip.mp4 --watch
    anb list
    anb download ID

Ctrl-C stops it.
"""


def run(*, workers: int, port: int | None, as_json: bool) -> None:
    """Run the local stack with the folder `.anb` in the current folder, until a signal stops the stack.

    Raises:
        OutputLost: stdout was closed, and the stack was stopped.
        StackTrouble: the stack can't start.
        WrongUse: ANB_DRAIN_SECONDS is not a valid number of seconds.
        ModuleNotFoundError: the API or the worker is not installed.
    """
    for module in PROGRAMS:
        if find_spec(module) is None:
            raise ModuleNotFoundError(name=module)
    terminal = Terminal(as_json=as_json)
    lost: list[OutputLost] = []
    show = _line_printer(terminal, lost)
    folder = Folder(current_folder() / NAME)

    def on_line(source: str, raw: str) -> None:
        line = readable(raw)
        if line is not None:
            show(source, line)

    def on_ready(url: str) -> None:
        if as_json:
            terminal.record({"event": "ready", "url": url, "data": str(folder.path)})
            return
        terminal.out.print(Text(READY.format(url=url, folder=folder.path)))

    Supervisor(
        folder,
        workers=workers,
        port=port,
        say=lambda source, text: show(source, Line(text, "info")),
        on_line=on_line,
        on_ready=on_ready,
    ).run()
    if lost:
        raise lost[0]


def _line_printer(terminal: Terminal, lost: list[OutputLost]) -> Callable[[str, Line], None]:
    """Return a thread-safe function that prints a line.

    If stdout is closed, the function appends the error to `lost` and sends SIGINT to the current process.
    """
    lock = threading.Lock()

    def show(source: str, line: Line) -> None:
        try:
            write(source, line)
        except OutputLost as error:
            lost.append(error)
            os.kill(os.getpid(), signal.SIGINT)

    def write(source: str, line: Line) -> None:
        now = datetime.now(UTC).astimezone()
        with lock:
            if terminal.as_json:
                record: dict[str, Any] = {
                    "at": now.isoformat(),
                    "source": source,
                    "level": line.level,
                    "text": line.text,
                }
                terminal.record(record)
                return
            terminal.out.print(
                Text.assemble(
                    (f"{now:%H:%M:%S} ", "dim"),
                    (f"{source:{SOURCE_WIDTH}} ", "cyan"),
                    (clean(line.text), COLORS.get(line.level, "")),
                )
            )

    return show
