"""Starts the real programs, and kills them at chosen steps: `python -m tests.chaos.launcher`.

This process has imported all modules. Each program is a fork of it, because a fork starts twenty times as fast as a new
process. The adapters of each program are wrapped, so that each call of a port is a step at which the program can die.
Commands come on stdin and events go to stdout, one JSON object a line. See `tests/chaos/programs.py`.
"""

import ctypes
import gc
import json
import os
import selectors
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import boto3
import botocore.session
from botocore.loaders import create_loader

from tests.chaos import wrapping

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Start programs until stdin is closed, then kill them all."""
    programs = _imported()
    _read_models()
    gc.freeze()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    children: set[int] = set()
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                data = os.read(key.fd, 65536)
                if key.fd == woken:
                    _reap(children)
                    continue
                if not data:
                    return _kill(children)
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    children.add(_start(programs, json.loads(line), (woken, wake)))


def _imported() -> Mapping[str, Callable[[], int | None]]:
    """Wrap the adapters, then import all programs. Returns the main functions of the programs."""
    wrapping.wrap_adapters()
    from anb_api import __main__ as api  # noqa: PLC0415 - only after the adapters are wrapped
    from anb_operator import __main__ as operator  # noqa: PLC0415
    from anb_worker import __main__ as worker  # noqa: PLC0415

    return {"api": lambda: api.main(["serve"]), "operator": lambda: operator.main([]), "worker": worker.main}


def _read_models() -> None:
    """Read the descriptions of the AWS services once. Otherwise each program would do it, which is slow."""
    loader = create_loader()
    botocore.session.create_loader = lambda *_: loader
    for name in ("s3", "sqs", "sns"):
        boto3.session.Session().client(name, region_name="us-east-1").close()


def _tell(**event: int | str) -> None:
    os.write(1, json.dumps(event).encode() + b"\n")


def _start(programs: Mapping[str, Callable[[], int | None]], asked: Any, pipes: tuple[int, int]) -> int:
    pid = os.fork()
    if pid == 0:
        _become(programs[asked["program"]], asked, pipes)
    _tell(name=asked["name"], pid=pid)
    return pid


def _reap(children: set[int]) -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            children.discard(pid)
            _tell(pid=pid, code=os.waitstatus_to_exitcode(status))


def _kill(children: set[int]) -> None:
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    for pid in children:
        os.waitpid(pid, 0)


def _become(program: Callable[[], int | None], asked: Any, pipes: tuple[int, int]) -> NoReturn:
    """Run a program in this fork. Never returns."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        for pipe in pipes:
            os.close(pipe)
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, file in ((0, nothing), (1, log), (2, log)):
            os.dup2(file, target)
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(Path(asked["log"]).parent)
        wrapping.begin(asked["program"], asked["faults"])
        code = program() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - the log shows any exception
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
