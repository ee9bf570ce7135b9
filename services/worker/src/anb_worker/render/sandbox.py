"""Runs programs that read uploads, such as ffmpeg and the probe, as child processes with few rights.

On every system a child has a process group of its own and an environment without secrets.
The memory, the CPU time, the file size and the number of open files of a child are limited.
SIGKILL ends the process group, because ffmpeg can ignore SIGTERM, for example at a gap in a file's timestamps.

On Linux a child has more protections:
The kernel kills the child when the worker dies.
The child can neither make sockets nor leave its process group (seccomp).
The child can open only the files that the caller lists (Landlock, from Linux 5.13).
Other processes can't read the memory of a child that runs Python.
"""

import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from anb_core.domain.errors import AnbError, BadInput, Transient, Unavailable
from anb_core.ports.stop import Stop
from anb_worker.render.drop_rights import NOT_STARTED

_log = structlog.get_logger(__name__)

_DROP_RIGHTS = Path(__file__).with_name("drop_rights.py")
_POLL_SECONDS = 0.05
"""Seconds between two checks of `stop`. A child is killed at most this many seconds after a stop request."""
_DRAIN_SECONDS = 1.0
"""Maximum time to wait for more data in the pipes after the child's process group was killed, in seconds."""
_KEPT_OF_STDOUT = 1024 * 1024
_KEPT_OF_STDERR = 16 * 1024
"""Maximum numbers of bytes of stdout and stderr that are kept. The last bytes are kept."""
_LOGGED_OF_STDERR = 2000
"""Maximum number of characters of stderr that are logged. The last characters are logged."""
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS}
"""Signals of a crash, which the input may have caused. Other signals come from other processes, not from the input."""
_MEMORY_WORDS = ("cannot allocate memory", "memoryerror", "malloc of size")
_SYSTEM_WORDS = ("no such file", "permission denied", "resource temporarily unavailable", "too many open files")
"""Parts of messages about system errors, which the content of an upload can't cause."""
# Paths that programs read when they start: libraries, locales and the number of processors.
_SYSTEM = ("/usr", "/lib", "/lib64", "/opt", "/etc", "/dev/urandom", "/sys/devices/system/cpu")


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """The limits of one child process."""

    cpu_seconds: int = 900
    """Maximum CPU time, in seconds."""
    wall_seconds: float = 1800.0
    """Maximum time from the start to the end of the child, in seconds."""
    memory_bytes: int = 4 * 1024**3
    """Maximum size of the address space, in bytes."""
    file_bytes: int = 1024**3
    """Maximum size of each file that the child writes, in bytes."""
    open_files: int = 256


@dataclass(frozen=True, slots=True)
class Finished:
    """The exit code of a child and the end of the child's output."""

    code: int
    """The exit code, or the negative number of the signal that killed the child."""
    exhausted: bool
    """Whether the child used up its CPU time."""
    stdout: str
    """The last _KEPT_OF_STDOUT bytes of stdout."""
    stderr: str
    """The last _KEPT_OF_STDERR bytes of stderr."""


def run(
    command: Sequence[str],
    *,
    workdir: Path,
    stop: Stop,
    limits: ChildLimits,
    read: Iterable[Path] = (),
    on_line: Callable[[str], None] | None = None,
) -> Finished:
    """Run a command and wait for its end. `workdir` is the command's current directory and its only writable folder.

    The command may read its own binary, files of the system, `workdir`, and the files and directories in `read`.
    If `on_line` is given, it is called with each line of stdout. Otherwise stdout is in the result.
    The child process has ended when this function returns or raises an error.

    Raises:
        Transient: the child ran longer than `limits.wall_seconds` (`timed_out`).
        AnbError: another thread requested a stop (see `Stop`).
    """
    launcher = [sys.executable, "-I", "-S", str(_DROP_RIGHTS), _rights(command[0], workdir, limits, read), *command]
    return _run(launcher, Path(command[0]).name, workdir=workdir, stop=stop, limits=limits, on_line=on_line)


def run_python(
    module: str, arguments: Sequence[str], *, workdir: Path, stop: Stop, limits: ChildLimits, read: Iterable[Path] = ()
) -> Finished:
    """Run one of the project's Python modules as a child process. See `run` for the arguments and the errors."""
    paths = [Path(sys.prefix), Path(sys.base_prefix), *map(Path, filter(None, sys.path)), *read]
    # With -I, Python ignores its environment variables, and imports nothing from the current directory.
    launcher = [
        sys.executable,
        "-I",
        str(_DROP_RIGHTS),
        _rights(sys.executable, workdir, limits, paths),
        module,
        *arguments,
    ]
    return _run(launcher, module, workdir=workdir, stop=stop, limits=limits)


def _run(
    launcher: Sequence[str],
    name: str,
    *,
    workdir: Path,
    stop: Stop,
    limits: ChildLimits,
    on_line: Callable[[str], None] | None = None,
) -> Finished:
    deadline = time.monotonic() + limits.wall_seconds
    stop.check()
    with _started(launcher, workdir) as child:
        stdout, stderr = _Tail(_KEPT_OF_STDOUT, on_line), _Tail(_KEPT_OF_STDERR)
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ, stdout)  # type: ignore[arg-type]
            selector.register(child.stderr, selectors.EVENT_READ, stderr)  # type: ignore[arg-type]
            while not _ended(child):
                _read_some(selector, _POLL_SECONDS if selector.get_map() else 0.001)
                stop.check()
                if time.monotonic() > deadline:
                    raise Transient("timed_out", f"{name} took over {limits.wall_seconds:.0f} s and was killed.")
            # Kill processes that the child started. They would keep the pipes open.
            _kill(child)
            while selector.get_map() and _read_some(selector, _DRAIN_SECONDS):
                pass
        usage = _reaped(child)
    exhausted = usage.ru_utime + usage.ru_stime >= limits.cpu_seconds
    return Finished(child.returncode, exhausted, stdout.text(), stderr.text())


def _read_some(selector: selectors.BaseSelector, within: float) -> bool:
    """Wait at most `within` seconds for data, and read it. Returns False if no data arrived."""
    ready = selector.select(within)
    for key, _ in ready:
        if not key.data.take(os.read(key.fd, 65536)):
            selector.unregister(key.fileobj)
    return bool(ready)


def blame(finished: Finished, doing: str, *, of_upload: bool = False) -> AnbError:
    """Return the error to raise for a child that failed. Log the end of the child's stderr.

    `doing` is a part of the error's message. It says what the child did, such as "rendering the picture".
    If `of_upload` is True, the child read an upload. If the upload may have caused the failure, the error is BadInput.
    The error's message does not contain stderr, because stderr contains paths of this machine.
    """
    _log.warning("a child failed", doing=doing, code=finished.code, complaint=finished.stderr[-_LOGGED_OF_STDERR:])
    stderr = finished.stderr.lower()
    if "no space left on device" in stderr:
        return Unavailable("scratch", f"The worker's disk was full while {doing}.")
    if of_upload and finished.code != NOT_STARTED and (error := _fault_of_upload(finished, stderr)):
        return error
    if finished.exhausted:
        return Transient("timed_out", f"The limit of CPU time was reached while {doing}.")
    if any(words in stderr for words in (*_MEMORY_WORDS, "resource temporarily unavailable")):
        return Transient("out_of_memory", f"The memory limit was reached while {doing}.")
    if finished.code < 0:
        return Transient("killed", f"The child was ended by {signal.Signals(-finished.code).name} while {doing}.")
    return Transient("child_failed", f"The child ended with {finished.code} while {doing}; the worker's log says more.")


def _fault_of_upload(finished: Finished, stderr: str) -> BadInput | None:
    """Return an error about the upload if the upload caused the child's failure. Return None for another cause."""
    if finished.exhausted:
        return BadInput(
            "too_demanding", "The video takes far more computing than a video of its length should; export it again."
        )
    if any(words in stderr for words in _MEMORY_WORDS):
        # Another attempt would have the same memory limit, and fail too.
        return BadInput("too_demanding", "The video takes far more memory than a video should; export it again.")
    if any(words in stderr for words in _SYSTEM_WORDS) or (finished.code < 0 and -finished.code not in _CRASHES):
        return None
    return BadInput("corrupt", "The video is damaged: it can't be decoded. Record or export it again.")


@contextmanager
def _started(launcher: Sequence[str], workdir: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        launcher,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=workdir,
        env=_environment(workdir),
        start_new_session=True,
    ) as child:
        try:
            yield child
        finally:
            if child.returncode is None:
                _kill(child)
                child.wait()
            # Reap the other processes of the group. In a container, the worker (PID 1) has become their parent.
            with suppress(ChildProcessError):
                while os.waitpid(-child.pid, 0):
                    pass


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Kill a child's process group. Call this before the child is reaped: later, another process may have its id."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def _ended(child: subprocess.Popen[bytes]) -> bool:
    """Return whether a child has ended. The child is not reaped (WNOWAIT), so no other process can get its id."""
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _reaped(child: subprocess.Popen[bytes]) -> resource.struct_rusage:
    """Reap a child that has ended. Return the CPU time and the memory that it used.

    The CPU time shows whether ffmpeg reached its limit. Its exit code does not, because ffmpeg catches SIGXCPU.
    """
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return usage


class _Tail:
    """Keeps only the last `most` bytes of a stream. With `on_line`, keeps only a line that is not complete yet."""

    def __init__(self, most: int, on_line: Callable[[str], None] | None = None) -> None:
        self._most, self._on_line, self._bytes = most, on_line, bytearray()

    def take(self, chunk: bytes) -> bool:
        """Add a chunk of the stream. An empty chunk means the end of the stream. Returns False at the end."""
        self._bytes += chunk
        if self._on_line is not None:
            *lines, self._bytes = self._bytes.split(b"\n")
            for line in lines:
                self._on_line(line.decode(errors="replace"))
        del self._bytes[: -self._most]
        return bool(chunk)

    def text(self) -> str:
        return self._bytes.decode(errors="replace").strip()


def _rights(program: str, workdir: Path, limits: ChildLimits, read: Iterable[Path]) -> str:
    """Return the JSON for the argument RIGHTS of drop_rights.py."""
    cpu, memory, file, files = limits.cpu_seconds, limits.memory_bytes, limits.file_bytes, limits.open_files
    return json.dumps(
        {
            "parent": os.getpid(),
            "limits": {
                # At the first limit the child gets SIGXCPU, which it may ignore. At the second limit it is killed.
                "RLIMIT_CPU": (cpu, cpu + 5),
                "RLIMIT_AS": (memory, memory),
                "RLIMIT_FSIZE": (file, file),
                "RLIMIT_NOFILE": (files, files),
                "RLIMIT_CORE": (0, 0),
            },
            "read": [*_SYSTEM, program, *(str(path.absolute()) for path in read)],
            "write": [str(workdir.absolute()), "/dev/null"],
        }
    )


def _environment(workdir: Path) -> dict[str, str]:
    """Return the environment variables of a child. They do not include the worker's variables, such as credentials.

    MALLOC_ARENA_MAX saves address space. By default glibc's malloc reserves 64 MB for each thread.
    """
    loader = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    own = {
        "PATH": os.defpath,
        "LC_ALL": "C.UTF-8",
        "HOME": str(workdir),
        "TMPDIR": str(workdir),
        "MALLOC_ARENA_MAX": "2",
    }
    return loader | own
