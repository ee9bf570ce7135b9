"""Tests of the rights of sandboxed child processes, which open untrusted files."""

import ctypes
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from anb_core.domain.errors import Transient
from anb_core.ports.stop import Stop
from anb_worker.render import drop_rights
from anb_worker.render.sandbox import ChildLimits, Finished, run, run_python
from tests.support import eventually

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes these rights away")
PYTHON = (sys.executable, "-I", "-S", "-c")
RunCode = Callable[..., Finished]


@pytest.fixture
def run_code(tmp_path: Path) -> RunCode:
    """Return a function that runs Python code in a sandboxed child."""
    workdir = tmp_path / "work"
    workdir.mkdir()

    def start(
        code: str, *arguments: object, limits: ChildLimits | None = None, read: tuple[Path, ...] = ()
    ) -> Finished:
        return run(
            [*PYTHON, code, *map(str, arguments)],
            workdir=workdir,
            stop=Stop(),
            limits=limits or ChildLimits(wall_seconds=20),
            read=[Path(sys.prefix), Path(sys.base_prefix), *read],
        )

    return start


def test_a_child_sees_what_it_was_given_and_writes_into_its_workdir(run_code: RunCode, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_text("for the child")
    code = "import os, sys; open('made', 'w').write(open(sys.argv[1]).read()); os.rename('made', 'kept'); print('done')"
    finished = run_code(code, given, read=(given,))
    assert (finished.code, finished.stdout) == (0, "done")
    assert (tmp_path / "work" / "kept").read_text() == "for the child"


@linux
@pytest.mark.parametrize(
    "code",
    [
        "open(sys.argv[1]).read()",
        "open(sys.argv[1], 'a')",
        "os.listdir(os.path.dirname(sys.argv[1]))",
        "open(os.path.join(os.path.dirname(sys.argv[1]), 'new'), 'w')",
        "os.unlink(sys.argv[1])",
        "open(f'/proc/{os.getppid()}/environ').read()",
        "open(f'/proc/{os.getppid()}/mem', 'rb')",
        "os.listdir('/root')",
    ],
)
def test_a_child_reaches_no_other_file(run_code: RunCode, tmp_path: Path, code: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("nobody's business")
    finished = run_code(f"import os, sys; {code}", secret)
    assert finished.code == 1
    assert "PermissionError" in finished.stderr
    assert secret.read_text() == "nobody's business"


@linux
@pytest.mark.parametrize(
    "code",
    [
        "socket.create_connection(('127.0.0.1', int(sys.argv[1])))",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', int(sys.argv[1])))",
        "socket.socket(socket.AF_UNIX).connect('/run/any.sock')",
    ],
)
def test_a_child_has_no_network(run_code: RunCode, code: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        finished = run_code(f"import socket, sys; {code}", server.getsockname()[1])
    assert finished.code == 1
    assert "PermissionError" in finished.stderr


@linux
def test_a_child_can_not_signal_its_worker(run_code: RunCode) -> None:
    finished = run_code("import os; os.kill(os.getppid(), 0)")
    assert "PermissionError" in finished.stderr


ABANDONS = """
import os, subprocess, sys, time
sleeper = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
left = subprocess.Popen(sleeper, stdout=HOLDS, stderr=HOLDS, HOW)
print(left.pid, flush=True)
"""


def alive(process: int) -> bool:
    """Return whether a process still runs. A zombie process counts as ended."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@linux
@pytest.mark.parametrize("how", ["start_new_session=True", "process_group=0"])
@pytest.mark.parametrize("holds", ["subprocess.DEVNULL", "None"])
def test_a_process_that_a_child_leaves_in_another_session_is_killed_with_it(
    run_code: RunCode, holds: str, how: str
) -> None:
    started = time.monotonic()
    finished = run_code(ABANDONS.replace("HOLDS", holds).replace("HOW", how))
    assert (finished.code, finished.stderr) == (0, "")
    eventually(lambda: not alive(int(finished.stdout)), within=10)
    assert time.monotonic() - started < 10


@linux
def test_a_process_that_a_killed_child_left_in_another_session_is_killed_too(run_code: RunCode, tmp_path: Path) -> None:
    code = (
        ABANDONS.replace("HOLDS", "None").replace("HOW", "start_new_session=True")
        + "open('pid', 'w').write(str(left.pid)); time.sleep(60)"
    )
    with pytest.raises(Transient):
        run_code(code, limits=ChildLimits(wall_seconds=2))
    eventually(lambda: not alive(int((tmp_path / "work" / "pid").read_text())), within=10)


@linux
def test_the_first_process_of_a_container_keeps_no_zombies_of_a_child(run_code: RunCode) -> None:
    adopt_orphans = partial(ctypes.CDLL(None).prctl, 36)
    adopt_orphans(1, 0, 0, 0)
    try:
        finished = run_code(ABANDONS.replace("HOLDS", "None").replace("HOW", "start_new_session=True"))
    finally:
        adopt_orphans(0, 0, 0, 0)
    assert not Path(f"/proc/{int(finished.stdout)}").exists()


@linux
def test_a_python_child_is_not_dumpable(tmp_path: Path) -> None:
    asks = "import ctypes; print('dumpable', ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    finished = run_python("timeit", ["-n1", "-r1", asks], workdir=tmp_path, stop=Stop(), limits=ChildLimits())
    assert finished.stdout.startswith("dumpable 0")


def test_a_child_gets_nothing_of_our_environment(run_code: RunCode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nobody's business")
    names = json.loads(run_code("import json, os; print(json.dumps(sorted(os.environ)))").stdout)
    assert set(names) <= {"HOME", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "MALLOC_ARENA_MAX", "PATH", "TMPDIR"}


def test_a_child_inherits_no_open_file(run_code: RunCode, tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as ours:
        fcntl.fcntl(ours, fcntl.F_SETFD, 0)
        finished = run_code(f"import os; os.fstat({ours.fileno()})")
    assert "Bad file descriptor" in finished.stderr


@pytest.mark.parametrize(
    ("code", "limits", "says"),
    [
        ("x = bytes(10**9)", ChildLimits(memory_bytes=500_000_000), "MemoryError"),
        ("[open('/dev/null') for _ in range(99)]", ChildLimits(open_files=50), "Too many open files"),
    ],
    ids=["memory", "files"],
)
def test_a_child_has_limits(run_code: RunCode, code: str, limits: ChildLimits, says: str) -> None:
    assert says in run_code(code, limits=limits).stderr


def test_a_child_that_computes_too_long_is_ended_and_reported_as_exhausted(run_code: RunCode) -> None:
    finished = run_code("import signal; signal.signal(24, print)\nwhile True: pass", limits=ChildLimits(cpu_seconds=1))
    assert finished.exhausted
    assert finished.code != 0


def test_a_child_that_waits_too_long_is_killed(run_code: RunCode) -> None:
    with pytest.raises(Transient) as caught:
        run_code("import time; time.sleep(60)", limits=ChildLimits(wall_seconds=0.2))
    assert caught.value.code == "timed_out"


def test_a_child_that_ignores_signals_is_killed_too(run_code: RunCode) -> None:
    code = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; time.sleep(60)"
    with pytest.raises(Transient):
        run_code(code, limits=ChildLimits(wall_seconds=0.5))


def test_what_a_child_prints_is_bounded(run_code: RunCode) -> None:
    finished = run_code("import sys; print('x' * 5_000_000); print('y' * 5_000_000, file=sys.stderr)")
    assert 1_000_000 < len(finished.stdout) <= 1024 * 1024
    assert 16_000 < len(finished.stderr) <= 16 * 1024


def test_a_child_whose_worker_is_already_gone_does_not_begin(tmp_path: Path) -> None:
    rights = {"parent": 1, "limits": {}, "read": ["/"], "write": []}
    command = [sys.executable, "-I", "-S", drop_rights.__file__, json.dumps(rights), "/bin/echo", "began"]
    finished = run(command, workdir=tmp_path, stop=Stop(), limits=ChildLimits(), read=[Path("/")])
    assert finished.stdout == ""
    assert "the worker is gone" in finished.stderr


@linux
def test_after_giving_up_its_rights_the_process_runs_a_module_with_its_own_arguments() -> None:
    rights = {"parent": os.getpid(), "limits": {"RLIMIT_NOFILE": (64, 64)}, "read": ["/"], "write": ["/"]}
    command = [
        sys.executable,
        "-I",
        drop_rights.__file__,
        json.dumps(rights),
        "http.server",
        "0",
        "--bind",
        "127.0.0.1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "socket.socket.__init__" in done.stderr
    assert done.stderr.endswith("PermissionError: [Errno 1] Operation not permitted\n")
