"""Takes rights away from this process, then becomes the command it was given, or runs a Python module in itself.

    python -I -S drop_rights.py RIGHTS COMMAND...
    python -I drop_rights.py RIGHTS MODULE ARGUMENTS...

Run by path, in a fresh interpreter, by `sandbox`, which also makes RIGHTS (JSON). It imports only the standard library,
so that it costs 20 ms. Limits could be set between fork and exec too, but nothing may run there in a process that has
threads. Linux takes all these rights away. Another system only knows the limits of its setrlimit.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import struct
import sys

NOT_STARTED = 126
"""The exit code where the command could not be started, the same as a shell's. Then it is not the command's fault."""

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_GET_SECCOMP = 21
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

# By the name the kernel gives the machine: its audit number; the calls that make a socket, which are socket() and
# io_uring_setup(); those that leave the group of processes that is killed together, setsid() and setpgid(). Elsewhere
# all are left alone: a wrong number would forbid something else.
_CALLS = {
    "x86_64": (0xC000003E, (41, 425), (112, 109)),
    "aarch64": (0xC00000B7, (198, 425), (157, 154)),
}

# Landlock's calls have the same numbers on every machine.
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
_FILE_READ = 1 << 0 | 1 << 2  # execute, read file
_FILE_WRITE = 1 << 1 | 1 << 14  # write file, truncate
_DIRECTORY_READ = _FILE_READ | 1 << 3
_DIRECTORY_WRITE = (
    _DIRECTORY_READ | _FILE_WRITE | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8
)  # and remove and make files and directories


def main() -> None:
    """Give the rights up and run the command, unless it is a module's name. `parent` is who must be alive, `read` and
    `write` what may be seen and changed.
    """
    wanted, command = json.loads(sys.argv[1]), sys.argv[2:]
    for name, value in wanted["limits"].items():
        # A system may not know a limit, or allow less than is asked for; the others hold all the same.
        with contextlib.suppress(ValueError, OSError, AttributeError):
            resource.setrlimit(getattr(resource, name), tuple(value))
    # Python ignores these two, and whoever is exec'd inherits that: a full pipe or file must end the child.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        os.nice(5)  # the worker's heartbeat comes first
    if sys.platform == "linux":
        _drop_rights(wanted)
    if os.path.isabs(command[0]):  # noqa: PTH117 - keeps the start short
        os.execv(command[0], command)  # noqa: S606 - no shell is what we want


def _drop_rights(wanted: dict) -> None:  # type: ignore[type-arg]
    libc = ctypes.CDLL(None, use_errno=True)
    # The child must not outlive the worker. If the worker died before this line, its death sends nothing any more.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != wanted["parent"]:
        sys.exit("the worker is gone")
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:  # noqa: PTH123 - keeps the start short
        score.write("1000")  # when memory runs out, the worker shall live to say so
    # Its memory is nobody's to read. A command loses this by exec, unless it may be executed but not read.
    _require(libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "to be looked into")
    _require(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "new privileges")
    forbid_other_files(libc, wanted["read"], wanted["write"])
    filter_calls(libc)


def forbid_other_files(libc: ctypes.CDLL, read: list[str], write: list[str]) -> None:
    """Landlock (Linux 5.13): only the named files and directories exist; the worker's environment and memory are out of
    reach.
    """
    version = libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return  # the kernel has none, and the worker said so when it started
    known = (1 << (13 if version < 2 else 14 if version < 3 else 15)) - 1  # noqa: PLR2004 - versions of the kernel's interface
    sockets = 3 if version >= 4 else 0  # noqa: PLR2004
    scopes = 3 if version >= 6 else 0  # noqa: PLR2004 - signals and abstract sockets
    rules = struct.pack("=QQQ", known, sockets, scopes)[: 8 if version < 4 else 16 if version < 6 else 24]  # noqa: PLR2004
    ruleset = libc.syscall(LANDLOCK_CREATE, rules, ctypes.c_size_t(len(rules)), ctypes.c_uint32(0))
    _require(ruleset, "other files")
    for paths, to_file, to_directory in ((read, _FILE_READ, _DIRECTORY_READ), (write, _FILE_WRITE, _DIRECTORY_WRITE)):
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
                rights = (to_directory if os.path.isdir(path) else to_file | _FILE_READ) & known  # noqa: PTH112
                libc.syscall(LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", rights, handle), ctypes.c_uint32(0))
                os.close(handle)
    _require(libc.syscall(LANDLOCK_RESTRICT, ruleset, ctypes.c_uint32(0)), "other files")
    os.close(ruleset)


def filter_calls(libc: ctypes.CDLL) -> None:
    """A seccomp filter, which needs no privilege: no socket can be made, so there is no network, whatever a decoder is
    talked into; and nobody leaves the group of processes that is killed as one.
    """
    if os.uname().machine not in _CALLS:
        return
    audit, sockets, departures = _CALLS[os.uname().machine]
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    # With EPERM; or with success though nothing happened, so that who makes itself a daemon goes on, and ends with us.
    allow, refuse, pretend, kill = 0x7FFF0000, 0x00050001, 0x00050000, 0x80000000
    program = [
        (load, 0, 0, 4),  # the kind of machine the call was made for: only ours, not its 32-bit sibling
        (equal, 1, 0, audit),
        (answer, 0, 0, kill),
        (load, 0, 0, 0),  # the call's number
        (at_least, 0, 1, 0x40000000),  # x86_64's second set of numbers
        (answer, 0, 0, kill),
        *(line for call in sockets for line in ((equal, 0, 1, call), (answer, 0, 0, refuse))),
        *(line for call in departures for line in ((equal, 0, 1, call), (answer, 0, 0, pretend))),
        (answer, 0, 0, allow),
    ]
    code = b"".join(struct.pack("=HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    _require(libc.prctl(PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0), "sockets")


def _require(result: int, what: str) -> None:
    """A child that keeps a right it should not have does not begin."""
    if result < 0:
        sys.exit(f"this child could not be forbidden {what}: {os.strerror(ctypes.get_errno())}")


def protections() -> dict[str, bool]:
    """From what this system keeps a child: `files` (that it was not given), `network`, `escape` (from being killed with
    its group) and `survival` (of the worker). All are True on a current Linux.
    """
    if sys.platform != "linux":
        return dict.fromkeys(("files", "network", "escape", "survival"), False)
    libc = ctypes.CDLL(None, use_errno=True)
    landlock = libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1)) >= 1
    seccomp = os.uname().machine in _CALLS and libc.prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0
    return {"files": landlock, "network": seccomp, "escape": seccomp, "survival": True}


if __name__ == "__main__":
    try:
        main()
    except (Exception, SystemExit) as _error:  # noqa: BLE001 - whatever it is, the command did not begin
        sys.stderr.write(f"{_error}\n")
        sys.exit(NOT_STARTED)
    # A module's name is all that was not exec'd.
    import runpy  # no earlier: a command does without

    sys.argv[:2] = []
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
