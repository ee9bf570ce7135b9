"""Starts programs through the launcher, and starts each one again when it has died, as Kubernetes does."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.support import eventually

ROOT = Path(__file__).parents[2]

Faults = Mapping[str, Any]
"""What goes wrong in a program: fields of `wrapping._State`, as JSON values."""


@dataclass(slots=True)
class Program:
    """A program that runs again and again, each time in a new process. `codes` are the exit codes of its processes."""

    name: str
    kind: str
    """`api`, `worker` or `operator`."""
    environment: Mapping[str, str]
    log_file: Path
    faults: Callable[[], Faults]
    """Returns the faults of the next process."""
    pid: int = 0
    """The process id, or 0 while no process runs."""
    wanted: bool = True
    """Whether the program is started again when its process ends."""
    codes: list[int] = field(default_factory=list)

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to the process. Returns False if no process runs."""
        with suppress(ProcessLookupError):
            if pid := self.pid:
                os.kill(pid, number)
                return True
        return False


class Programs:
    """All programs of a site. Use this object as a context manager: at its end, all programs are killed."""

    def __init__(self, folder: Path) -> None:
        self.all: dict[str, Program] = {}
        self._folder = folder
        self._lock = threading.Lock()
        self._by_pid: dict[int, Program] = {}
        self._closing = False

    def __enter__(self) -> Self:
        self._launcher = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.launcher"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            # Coverage would measure each of the many short processes.
            env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="launcher's events")
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        assert self._launcher.stdin is not None
        self._launcher.stdin.close()
        self._reader.join()
        self._launcher.wait(60)
        assert self._launcher.stdout is not None
        self._launcher.stdout.close()

    def start(
        self, kind: str, name: str, environment: Mapping[str, str], faults: Callable[[], Faults] = dict
    ) -> Program:
        """Start a program, and start it again whenever its process ends, until `stop`."""
        program = Program(name, kind, environment, self._folder / f"{name}.log", faults)
        self.all[name] = program
        self._ask(program)
        return program

    def restart(self, program: Program) -> None:
        """Start a program that was stopped."""
        program.wanted = True
        self._ask(program)

    def stop(self, program: Program, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop a program with a signal, and return the exit code. It is not started again."""
        program.wanted = False
        eventually(lambda: program.pid)
        seen = len(program.codes)
        program.send(number)
        eventually(lambda: len(program.codes) > seen)
        return program.codes[-1]

    def _ask(self, program: Program) -> None:
        asked = {
            "name": program.name,
            "program": program.kind,
            "environment": {**os.environ, **program.environment},
            "log": str(program.log_file),
            "faults": dict(program.faults()),
        }
        with self._lock, suppress(OSError, ValueError):  # closed at the end of the site
            assert self._launcher.stdin is not None
            self._launcher.stdin.write(json.dumps(asked).encode() + b"\n")
            self._launcher.stdin.flush()

    def _read(self) -> None:
        assert self._launcher.stdout is not None
        for line in self._launcher.stdout:
            event = json.loads(line)
            if "name" in event:
                program = self.all[event["name"]]
                program.pid = event["pid"]
                self._by_pid[program.pid] = program
                continue
            program = self._by_pid.pop(event["pid"])
            program.pid = 0
            program.codes.append(event["code"])
            if program.wanted and not self._closing:
                self._ask(program)


@contextmanager
def running_programs(folder: Path) -> Iterator[Programs]:
    """Run the launcher, whose logs are in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with Programs(folder) as programs:
        yield programs
