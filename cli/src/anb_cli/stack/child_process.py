"""A child process of the stack: starts it, reads its output and sends it signals."""

import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from anb_cli.stack import die_with_parent
from anb_cli.stack.restart_delay import Crashes

LAST_LINES = 15
"""Number of output lines that the error message of a failed start quotes."""


class ChildProcess:
    """A program that the kernel kills when the supervisor ends. If the program has exited, `start` starts it again.

    Every output line is written to `log` and passed to `on_line(name, line)`, which is called from another thread.
    Call `start` from the main thread, because the kernel kills the program when the thread that called `start` ends.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        on_line: Callable[[str, str], None],
    ) -> None:
        self.name = name
        self.crashes = Crashes()
        self._command = list(command)
        self._environment = dict(environment)
        self._log = log
        self._on_line = on_line
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._started = 0.0
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)

    def start(self) -> None:
        """Start the program in a new session, so that Ctrl-C reaches only the supervisor and not the program."""
        self._last_lines.clear()
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            die_with_parent.command_line(self._command, signal.SIGKILL),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._listen, args=(self._process,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int | None:
        """The process id, or None before the first start."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """Whether the program was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def note_exit(self) -> str:
        """Count an exit of the program, so that the next start is delayed. Return a text about the exit."""
        self.crashes = self.crashes.after(time.monotonic() - self._started)
        return _exit_text(self._process.returncode if self._process else None)

    def wait(self) -> int:
        """Wait for the end of the program and of its output. Returns the exit code (negative if a signal ended it)."""
        if self._process is None or self._reader is None:
            raise RuntimeError(f"{self.name} was never started")
        code = self._process.wait()
        # Use a timeout, because a child of the program may keep the pipe open after the program has ended.
        self._reader.join(timeout=1.0)
        return code

    def send(self, what: signal.Signals) -> None:
        """Send the program a signal. Does nothing if the program has ended."""
        if self._process is not None:
            self._process.send_signal(what)

    @property
    def last_lines(self) -> str:
        """The last lines of the program's output."""
        return "\n".join(self._last_lines)

    def _listen(self, process: subprocess.Popen[str]) -> None:
        if process.stdout is None:
            return
        with process.stdout as lines, self._log.open("a", encoding="utf-8") as log:
            for line in lines:
                log.write(line)
                log.flush()
                self._last_lines.append(line.rstrip())
                self._on_line(self.name, line.rstrip())


def _exit_text(code: int | None) -> str:
    match code:
        case int() if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        case _:
            return f"ended with {code}"
