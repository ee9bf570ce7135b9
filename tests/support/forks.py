"""Runs `anb` many times, each time in a new fork of a process that has already imported all modules.

Starting a fork is twenty times as fast as starting a new process.
Each fork has its own arguments, environment, working folder and standard streams, like a new process.
In a fork, `time.sleep` returns at once and advances the clock.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

Stream = Literal["file", "closed", "full", "broken", "empty"]

GIVEN_UP_AFTER = 30
"""Seconds after which a fork is killed."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The working folder, environment and other conditions under which a command runs.

    If `removed` is true, the working folder is deleted before the command starts.
    If `powerless` is true, file permissions apply even to root.
    """

    folder: str
    environment: Mapping[str, str] = field(default_factory=dict)
    stdin: Stream = "empty"
    stdout: Stream = "file"
    stderr: Stream = "file"
    encoding: str = "utf-8"
    removed: bool = False
    powerless: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """The result of a command: exit code (negative for a signal), stdout and stderr."""

    code: int
    out: str
    err: str


@dataclass(slots=True)
class Forks:
    """Runs commands in forks of a server process."""

    _process: "subprocess.Popen[str]"

    def run(self, arguments: Sequence[str], there: Circumstances) -> Ended:
        """Run a command and wait until it ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"arguments": list(arguments), "there": asdict(there)}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


@contextmanager
def forks() -> Iterator[Forks]:
    """Start the process that forks for each command. The process stops when the `with` block ends."""
    # Disable coverage, because thousands of forks would each write a file, and some forks have no working folder.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="ascii", env=environment
    ) as process:
        yield Forks(process)
        assert process.stdin is not None
        process.stdin.close()


def _serve() -> None:
    _skip_sleeps()
    import anb_cli  # noqa: PLC0415 - only after time.sleep is replaced

    for module in pkgutil.walk_packages(anb_cli.__path__, "anb_cli."):
        if not module.name.endswith(("__main__", "emulator_guard", "die_with_parent")):
            importlib.import_module(module.name)
    _warm_up()
    for line in sys.stdin:
        asked = json.loads(line)
        ended = _run(asked["arguments"], Circumstances(**asked["there"]))
        sys.stdout.write(json.dumps(asdict(ended)) + "\n")
        sys.stdout.flush()


def _warm_up() -> None:
    """Run a few commands before the first fork, so that the forks need not import the commands' modules again."""
    from anb_cli.__main__ import perform  # noqa: PLC0415 - see _serve

    os.environ |= {"ANB_URL": "http://127.0.0.1:9", "ANB_TOKEN": "x"}
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stderr(nowhere),
        contextlib.redirect_stdout(nowhere),
    ):
        for arguments in (["list", "--limit", "x"], ["upload", "/nowhere"], ["list"], ["--help"]):
            perform(arguments)
    gc.freeze()


def _skip_sleeps() -> None:
    """Replace `time.sleep` by a function that returns at once and advances `time.monotonic`."""
    real, skipped = time.monotonic, 0.0

    def sleep(seconds: Any) -> None:
        nonlocal skipped
        skipped += seconds

    time.sleep = sleep
    time.monotonic = lambda: real() + skipped


def _run(arguments: Sequence[str], there: Circumstances) -> Ended:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _become(arguments, there, out, err)
        _, status = os.waitpid(child, 0)
        return Ended(os.waitstatus_to_exitcode(status), _read(out), _read(err))


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="backslashreplace")


def _become(arguments: Sequence[str], there: Circumstances, out: IO[bytes], err: IO[bytes]) -> None:
    """Run the command in the fork. Never returns."""
    from anb_cli.__main__ import main  # noqa: PLC0415 - see _serve

    try:
        signal.alarm(GIVEN_UP_AFTER)
        os.environ.clear()
        os.environ.update(there.environment)
        with contextlib.suppress(OSError):
            os.chdir(there.folder)
        if there.removed:
            Path(there.folder).rmdir()
        if there.powerless:
            _drop_powers()
        sys.argv = ["anb", *arguments]
        for number, kind, file in ((0, there.stdin, None), (1, there.stdout, out), (2, there.stderr, err)):
            _redirect(number, kind, file)
        sys.stdin = None if there.stdin == "closed" else open(0, closefd=False)  # noqa: SIM115
        sys.stdout = _text(1, there.stdout, there.encoding, "strict")
        sys.stderr = _text(2, there.stderr, there.encoding, "backslashreplace")
        main()
    except BaseException:  # noqa: BLE001 - the test looks for any exception
        err.write(traceback.format_exc().encode())
        err.flush()
    os._exit(99)


def _redirect(number: int, kind: Stream, file: IO[bytes] | None) -> None:
    if kind == "closed":
        os.close(number)
        return
    read, write = os.pipe()
    match kind:
        case "file" if file is not None:
            os.dup2(file.fileno(), number)
        case "full":
            os.dup2(os.open("/dev/full", os.O_RDWR), number)
        case "broken":
            os.close(read)
            os.dup2(write, number)
            return
        case _:
            os.dup2(read, number)
    os.close(read)
    os.close(write)


def _text(number: int, kind: Stream, encoding: str, errors: str) -> Any:
    return None if kind == "closed" else open(number, "w", encoding=encoding, errors=errors, closefd=False)


def _drop_powers() -> None:
    """Drop root's capabilities, so that file permissions also apply to root."""
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    del sys.path[0]
    _serve()
