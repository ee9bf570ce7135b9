"""Runs the demo: starts a stack, uploads a video, downloads and verifies the result, and always stops the stack."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer
from av import VideoFrame
from PIL import Image
from rich.text import Text

from anb_cli import downloading, sources
from anb_cli.client import Api
from anb_cli.connection import Connection
from anb_cli.demo import contact_sheet
from anb_cli.demo.examination import FPS, Comparison, Facts, Plan, examine, judge, sound_shift, source_length
from anb_cli.emulator import install
from anb_cli.errors import Exit, StackTrouble, VideoFailed, WrongUse
from anb_cli.following import follow
from anb_cli.stack import die_with_parent
from anb_cli.stack.folder import NAME, Folder, Running, current_folder
from anb_cli.terminal import Bar, Terminal, size_text
from anb_cli.text import readable
from anb_cli.video_commands import given_text, send
from anb_core.domain.naming import title_from_file_name
from anb_core.domain.status import Status

FOOTAGE = Path("build/footage/bigbuckbunny.mp4")
FOOTAGE_TITLE = "Big Buck Bunny"

START_WITHIN = 120.0
"""Maximum time for the start of the stack, in seconds."""

POLL = 0.05
"""Pause between two checks whether the stack has started, in seconds."""


@dataclass(slots=True)
class Clock:
    """Measures the phases of the demo."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Duration of each phase in seconds, in the order of the phases."""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure how long the `with` block takes."""
        begun = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begun


def run(video: Path | None, *, title: str | None, out: Path, as_json: bool) -> None:
    """Run the demo. Ends with exit code 1 if the result fails a check."""
    terminal = Terminal(as_json=as_json)
    if video is None:
        video, title = FOOTAGE, title or FOOTAGE_TITLE
        if not video.exists():
            raise WrongUse(f"{video} is missing: `make demo` fetches it, or name a video of yours with --video.")
    sources.check(video)
    video, out = current_folder() / video, current_folder() / out
    title = given_text("--title", title) or title_from_file_name(readable(video.name))
    processed, sheet = out / "processed.mp4", out / "contact-sheet.png"
    folder = _fresh(out, processed, sheet)
    clock = Clock()
    install(terminal.note)
    terminal.note(f"Starting a separate stack in {_relative(folder.path)} ...")
    with terminal.progress() as bars, _stack(folder, clock) as running, Api(_connection(folder, running)) as api:
        record = _process(api, video, title, processed, bars.add(video.name), clock=clock)
        steps = _steps(folder, record["video_id"])
    terminal.note("Examining the result ...")
    with clock.phase("examining"):
        facts, checks = _examine(video, processed, sheet, Plan.of(record["result"]["frames"]), title)
    report = _Report(video, processed, sheet, facts, checks, clock.seconds, steps)
    report.show(terminal)
    if not all(check.passed for check in checks):
        raise typer.Exit(Exit.VIDEO_FAILED)


def _fresh(out: Path, *results: Path) -> Folder:
    """Delete the results, jobs and objects of earlier demos, but not the workers' cache. Return the `.anb` folder."""
    folder = Folder(out / NAME)
    folder.create()
    with folder.locked():
        for path in (folder.emulator, folder.logs):
            shutil.rmtree(path)
        for path in folder.path.glob(f"{folder.database.name}*"):
            path.unlink()
    for result in results:
        for path in (result, *out.glob(f".{result.name}.*.part")):
            path.unlink(missing_ok=True)
    return folder


@contextmanager
def _stack(folder: Folder, clock: Clock) -> Iterator[Running]:
    """Run `anb up` in the folder, on free ports, until the `with` block ends. Write the output to a log file."""
    log = folder.path.parent / "stack.log"
    command = [sys.executable, "-P", "-m", "anb_cli", "up", "--port", "0", "--json"]
    ended, hurried = False, True
    with log.open("w") as output:
        process = subprocess.Popen(
            die_with_parent.command_line(command, signal.SIGTERM),
            cwd=folder.path.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        with clock.phase("starting the stack"):
            running = _started(process, folder, log)
        yield running
        hurried = False
    finally:
        with clock.phase("stopping the stack"):
            while not ended:
                ended = _stop(process, hurried=hurried)


def _started(process: subprocess.Popen[bytes], folder: Folder, log: Path) -> Running:
    deadline = time.monotonic() + START_WITHIN
    while (running := folder.running()) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise StackTrouble(f"The stack did not start. The end of {log}:\n{last}")
        time.sleep(POLL)
    return running


def _stop(process: subprocess.Popen[bytes], *, hurried: bool) -> bool:
    """Send SIGTERM and wait until the process exits. With `hurried`, repeat SIGTERM after 0.5 s.

    Returns False if Ctrl-C interrupted the wait.
    """
    try:
        process.terminate()
        if hurried:
            try:
                process.wait(0.5)
            except subprocess.TimeoutExpired:
                process.terminate()
        process.wait()
    except KeyboardInterrupt:
        return False
    return True


def _connection(folder: Folder, running: Running) -> Connection:
    return Connection(running.url, folder.token())


def _process(api: Api, video: Path, title: str, processed: Path, bar: Bar, *, clock: Clock) -> dict[str, Any]:
    with clock.phase("uploading"):
        video_id = send(api, video, title, {}, bar)["video_id"]
    bar.restart()
    with clock.phase("processing"):
        for update in follow(api, video_id):
            bar.update(update)
            if update.final and update.status is not Status.PROCESSED:
                raise VideoFailed(f"The video is {update.status or 'deleted'}: {update.error}")
    record = api.get(video_id)
    bar.restart()
    with clock.phase("downloading"):
        size = record["result"]["size"]
        downloading.download(api, record, processed, on_bytes=lambda done: bar.bytes("downloading", done, size))
    return record


def _steps(folder: Folder, video_id: str) -> dict[str, float]:
    """Return the durations of the job's steps, in seconds, from the worker's log. Empty if the log lacks the job."""
    for line in (folder.logs / "worker-1.log").read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if record.get("video_id") == video_id and record.get("outcome") == Status.PROCESSED:
            return dict(record["steps"])
    return {}


def with_wait(steps: dict[str, float], processing: float) -> dict[str, float]:
    """Return the time that the job waited for the worker, followed by the durations of the job's steps.

    A new worker renders its intro and outro clips before it takes its first job.
    """
    return {"wait for the worker": max(0.0, processing - sum(steps.values())), **steps} if steps else {}


def _examine(video: Path, processed: Path, sheet: Path, plan: Plan, title: str) -> tuple[Facts, list[Comparison]]:
    parts = contact_sheet.parts_of(plan.intro, plan.main, plan.outro)
    picks = {number for part in parts for number in part.picks}
    pictures: dict[int, Image.Image] = {}

    def keep(number: int, frame: VideoFrame) -> None:
        if number in picks:
            pictures[number] = Image.fromarray(frame.to_ndarray(format="rgb24"))

    facts = examine(processed, keep)
    checks = judge(facts, plan, source_length(video), sound_shift(video, processed, plan.intro / FPS))
    if picks <= pictures.keys():
        about = f"{facts.width} x {facts.height}, {plan.frames} frames, {size_text(processed.stat().st_size)}"
        contact_sheet.draw(title, about, parts, pictures, FPS).save(sheet)
    return facts, checks


@dataclass(frozen=True, slots=True)
class _Report:
    source: Path
    processed: Path
    sheet: Path
    facts: Facts
    checks: list[Comparison]
    phases: dict[str, float]
    steps: dict[str, float]

    def show(self, terminal: Terminal) -> None:
        """Print the report, or write it as one JSON object."""
        if terminal.as_json:
            terminal.record(self._record())
            return
        for check in self.checks:
            mark = Text("  ok  ", "green") if check.passed else Text("WRONG ", "bold red")
            wanted = "" if check.passed else f" instead of {check.wanted}"
            terminal.out.print(Text.assemble(mark, f"{check.what}: {check.found}{wanted}"))
        terminal.out.print()
        for name, seconds in self.phases.items():
            terminal.out.print(f"{seconds:7.2f} s  {name}")
            if name == "processing":
                for step, taken in with_wait(self.steps, seconds).items():
                    terminal.out.print(Text(f"{taken:14.2f} s  {step}", "dim"))
        terminal.out.print()
        for path, length in ((self.source, source_length(self.source)), (self.processed, self.facts.video_end)):
            terminal.out.print(Text(f"{_relative(path)}  {size_text(path.stat().st_size)}, {length:.2f} s"))
        if self.sheet.exists():
            terminal.out.print(Text(str(_relative(self.sheet))))

    def _record(self) -> dict[str, Any]:
        return {
            "verified": all(check.passed for check in self.checks),
            "checks": [
                {"what": check.what, "wanted": check.wanted, "found": check.found, "passed": check.passed}
                for check in self.checks
            ],
            "seconds": self.phases,
            "steps": self.steps,
            "source": {"path": str(self.source), "size": self.source.stat().st_size},
            "processed": {
                "path": str(self.processed),
                "size": self.processed.stat().st_size,
                "frames": self.facts.frames,
            },
            "contact_sheet": str(self.sheet),
        }


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
