"""Runs what touches an upload (ffmpeg, the probe) in a child with few rights that cannot outlive us, and kills it when
asked to.

Every child: a process group of its own, which is killed with it; SIGKILL and nothing gentler (a file with a hole in its
timestamps made ffmpeg ignore SIGTERM); limits on memory, CPU time, file size and open files; an environment without our
secrets. On Linux also: killed by the kernel when the worker dies; no sockets, and no leaving of the group (seccomp); no
file but those named (Landlock, from 5.13); a Python child's memory is nobody's to read. Elsewhere those are missing.
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
"""How often `stop` is checked. A child may be killed so much too late."""
_DRAIN_SECONDS = 1.0
"""How long to go on reading a pipe that some process still holds open after the child's whole group was killed."""
_KEPT_OF_STDOUT = 1024 * 1024
_KEPT_OF_STDERR = 16 * 1024
_LOGGED_OF_STDERR = 2000
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS}
"""How a decoder ends that trips over what it reads. Other signals come from outside."""
_MEMORY_WORDS = ("cannot allocate memory", "memoryerror", "malloc of size")
_OUR_WORDS = ("no such file", "permission denied", "resource temporarily unavailable", "too many open files")
"""What no file's bytes can bring about, in the system's words."""
# What any program needs to start: shared libraries, their cache, locales, the count of processors.
_SYSTEM = ("/usr", "/lib", "/lib64", "/opt", "/etc", "/dev/urandom", "/sys/devices/system/cpu")


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """The most that one child may use."""

    cpu_seconds: int = 900
    wall_seconds: float = 1800.0
    memory_bytes: int = 4 * 1024**3
    """Of address space."""
    file_bytes: int = 1024**3
    """Of each file that it writes."""
    open_files: int = 256


@dataclass(frozen=True, slots=True)
class Finished:
    """How a child ended."""

    code: int
    """Its exit code. Negative: the number of the signal that killed it."""
    exhausted: bool
    """Whether it used up its CPU time."""
    stdout: str
    stderr: str
    """The end of what it wrote, at most _KEPT_OF_STDOUT and _KEPT_OF_STDERR bytes."""


def run(
    command: Sequence[str],
    *,
    workdir: Path,
    stop: Stop,
    limits: ChildLimits,
    read: Iterable[Path] = (),
    on_line: Callable[[str], None] | None = None,
) -> Finished:
    """Run a command to its end, `workdir` being its current directory and the only place that it may write to.

    `read` names the files and directories that it may read besides itself, the system's and workdir. `on_line` gets
    each line of its output as it comes; without, the output is in the answer. Whatever way this ends, the child is dead
    then.

    Raises:
        Transient: `timed_out`.
        AnbError: what `stop` was asked with.
    """
    launcher = [sys.executable, "-I", "-S", str(_DROP_RIGHTS), _rights(command[0], workdir, limits, read), *command]
    return _run(launcher, Path(command[0]).name, workdir=workdir, stop=stop, limits=limits, on_line=on_line)


def run_python(
    module: str, arguments: Sequence[str], *, workdir: Path, stop: Stop, limits: ChildLimits, read: Iterable[Path] = ()
) -> Finished:
    """Run a module of ours as `run` runs a command."""
    paths = [Path(sys.prefix), Path(sys.base_prefix), *map(Path, filter(None, sys.path)), *read]
    # -I: nothing is imported that the environment or the current directory names.
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
            # What it leaves behind holds the pipes open, until it is killed.
            _kill(child)
            while selector.get_map() and _read_some(selector, _DRAIN_SECONDS):
                pass
        usage = _reaped(child)
    exhausted = usage.ru_utime + usage.ru_stime >= limits.cpu_seconds
    return Finished(child.returncode, exhausted, stdout.text(), stderr.text())


def _read_some(selector: selectors.BaseSelector, within: float) -> bool:
    """Read what arrives within so many seconds. Returns False where nothing arrives."""
    ready = selector.select(within)
    for key, _ in ready:
        if not key.data.take(os.read(key.fd, 65536)):
            selector.unregister(key.fileobj)
    return bool(ready)


def blame(finished: Finished, doing: str, *, of_upload: bool = False) -> AnbError:
    """Return the error to raise for a child that failed, and log what it wrote to stderr.

    `of_upload`: it read a stranger's file. Whatever the bytes of a file can cause is then the fault of that file, as
    the next try would end the same way. The error never repeats stderr, which names our files.
    """
    _log.warning("a child failed", doing=doing, code=finished.code, complaint=finished.stderr[-_LOGGED_OF_STDERR:])
    said = finished.stderr.lower()
    if "no space left on device" in said:
        return Unavailable("scratch", f"The worker's disk was full while {doing}.")
    if of_upload and finished.code != NOT_STARTED and (error := _fault_of_bytes(finished, said)):
        return error
    if finished.exhausted:
        return Transient("timed_out", f"The limit of CPU time was reached while {doing}.")
    if any(words in said for words in (*_MEMORY_WORDS, "resource temporarily unavailable")):
        return Transient("out_of_memory", f"The memory limit was reached while {doing}.")
    if finished.code < 0:
        return Transient("killed", f"The child was ended by {signal.Signals(-finished.code).name} while {doing}.")
    return Transient("child_failed", f"The child ended with {finished.code} while {doing}; the worker's log says more.")


def _fault_of_bytes(finished: Finished, said: str) -> BadInput | None:
    """What an upload did to the child that read it; None where the upload can't have done it."""
    if finished.exhausted:
        return BadInput(
            "too_demanding", "The video takes far more computing than a video of its length should; export it again."
        )
    if any(words in said for words in _MEMORY_WORDS):
        # The limit is one of address space, and always the same: what reaches it once does so each time.
        return BadInput("too_demanding", "The video takes far more memory than a video should; export it again.")
    if any(words in said for words in _OUR_WORDS) or (finished.code < 0 and -finished.code not in _CRASHES):
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
            # As the first process of a container, this process becomes the parent of orphans and has to reap them.
            with suppress(ChildProcessError):
                while os.waitpid(-child.pid, 0):
                    pass


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End a child and all that it started. Only before it is waited for: afterwards the id may be another's."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def _ended(child: subprocess.Popen[bytes]) -> bool:
    """Whether a child has ended. It is not waited for, so that its id remains its own, and its group's."""
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _reaped(child: subprocess.Popen[bytes]) -> resource.struct_rusage:
    """What a child used that has ended. Not Popen.wait: whether its CPU time was used up can only be asked here, as
    ffmpeg catches the signal that says so.
    """
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return usage


class _Tail:
    """The end of a stream, bounded whatever is sent; or, with `on_line`, nothing but the line that is not yet whole."""

    def __init__(self, most: int, on_line: Callable[[str], None] | None = None) -> None:
        self._most, self._on_line, self._bytes = most, on_line, bytearray()

    def take(self, chunk: bytes) -> bool:
        """Add what was read; False at the end of the stream."""
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
    """What drop_rights.py has to allow and to limit, as JSON."""
    cpu, memory, file, files = limits.cpu_seconds, limits.memory_bytes, limits.file_bytes, limits.open_files
    return json.dumps(
        {
            "parent": os.getpid(),
            "limits": {
                # The soft limit's signal says what happened; the hard one's is for a program that ignores it.
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
    """Nothing of ours, above all no credentials. Two arenas: else each thread of glibc's malloc takes 64 MB of address
    space.
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
