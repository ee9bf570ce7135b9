"""A program that gives up rights, and then runs a command (by exec) or a Python module in the same process.

    python -I -S drop_rights.py RIGHTS COMMAND...
    python -I drop_rights.py RIGHTS MODULE ARGUMENTS...

The module `sandbox` starts this program, and passes RIGHTS as JSON.
The program imports only the standard library, so that it starts within 20 ms.
A separate program is needed, because a process with threads can't safely set limits between fork and exec.
On systems other than Linux, only the limits of setrlimit are set.
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
"""The exit code if the command could not be started. Shells use the same code."""

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_GET_SECCOMP = 21
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

# Each architecture, by its name in uname, has three entries. The first is the audit number of the architecture.
# The second has the numbers of the system calls that can make a socket (socket and io_uring_setup).
# The third entry has the numbers of the system calls that leave the process group (setsid and setpgid).
# No filter is installed on other architectures, because their system calls have other numbers.
_CALLS = {
    "x86_64": (0xC000003E, (41, 425), (112, 109)),
    "aarch64": (0xC00000B7, (198, 425), (157, 154)),
}

# The system calls of Landlock. They have the same numbers on every architecture.
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
_FILE_READ = 1 << 0 | 1 << 2  # execute and read files
_FILE_WRITE = 1 << 1 | 1 << 14  # write and truncate files
_DIRECTORY_READ = _FILE_READ | 1 << 3
# _DIRECTORY_WRITE includes the rights to remove and to make files and directories.
_DIRECTORY_WRITE = _DIRECTORY_READ | _FILE_WRITE | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8


def main() -> None:
    """Give up rights. Then run COMMAND by exec, or return if a module is to be run.

    RIGHTS has four fields. `limits` has the limits for setrlimit. `parent` is the process id of the worker.
    `read` and `write` are the paths that this process may read and write.
    """
    wanted, command = json.loads(sys.argv[1]), sys.argv[2:]
    for name, value in wanted["limits"].items():
        # Skip a limit that the system does not support, or that is higher than the limit that already applies.
        with contextlib.suppress(ValueError, OSError, AttributeError):
            resource.setrlimit(getattr(resource, name), tuple(value))
    # Python ignores SIGPIPE and SIGXFSZ, and exec would pass this on to the command.
    # Reset both signals: a child must end when it writes to a closed pipe, or makes a file larger than the limit.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        os.nice(5)  # lower the priority, so that the worker's threads, such as the heartbeat, run first
    if sys.platform == "linux":
        _drop_rights(wanted)
    if os.path.isabs(command[0]):  # noqa: PTH117 - pathlib would make the start slower
        os.execv(command[0], command)  # noqa: S606 - a shell is not wanted here


def _drop_rights(wanted: dict) -> None:  # type: ignore[type-arg]
    libc = ctypes.CDLL(None, use_errno=True)
    # Make the kernel kill this process when the worker dies. The worker may have died already, so check the parent.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != wanted["parent"]:
        sys.exit("the worker is gone")
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:  # noqa: PTH123 - pathlib would make the start slower
        score.write("1000")  # if memory runs out, the kernel kills this process instead of the worker
    # Other processes must not read the memory of this process.
    # An exec ends this protection, so only children that run Python have it.
    _require(libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "inspection of its memory")
    _require(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "new privileges")
    forbid_other_files(libc, wanted["read"], wanted["write"])
    filter_calls(libc)


def forbid_other_files(libc: ctypes.CDLL, read: list[str], write: list[str]) -> None:
    """Deny access to all files and directories except `read` and `write`, with Landlock (Linux 5.13 or newer).

    Landlock also denies access to the files in /proc with the worker's environment and memory.
    """
    version = libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return  # this kernel has no Landlock; the worker has logged a warning at startup
    handled = (1 << (13 if version < 2 else 14 if version < 3 else 15)) - 1  # noqa: PLR2004 - versions of the kernel's interface
    sockets = 3 if version >= 4 else 0  # noqa: PLR2004
    scopes = 3 if version >= 6 else 0  # noqa: PLR2004 - scopes for signals and abstract sockets
    rules = struct.pack("=QQQ", handled, sockets, scopes)[: 8 if version < 4 else 16 if version < 6 else 24]  # noqa: PLR2004
    ruleset = libc.syscall(LANDLOCK_CREATE, rules, ctypes.c_size_t(len(rules)), ctypes.c_uint32(0))
    _require(ruleset, "other files")
    for paths, to_file, to_directory in ((read, _FILE_READ, _DIRECTORY_READ), (write, _FILE_WRITE, _DIRECTORY_WRITE)):
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
                rights = (to_directory if os.path.isdir(path) else to_file | _FILE_READ) & handled  # noqa: PTH112
                libc.syscall(LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", rights, handle), ctypes.c_uint32(0))
                os.close(handle)
    _require(libc.syscall(LANDLOCK_RESTRICT, ruleset, ctypes.c_uint32(0)), "other files")
    os.close(ruleset)


def filter_calls(libc: ctypes.CDLL) -> None:
    """Install a seccomp filter for system calls. This needs no privilege.

    The filter forbids sockets. Even if an attacker's upload takes over a decoder, the decoder has no network.
    The filter keeps all processes in the process group. They are all killed when the group is killed.
    """
    if os.uname().machine not in _CALLS:
        return
    audit, sockets, group_changes = _CALLS[os.uname().machine]
    load, equal, at_least, decide = 0x20, 0x15, 0x35, 0x06
    # With `refuse`, the system call fails with EPERM. With `pretend`, it reports success but does nothing.
    # A program that calls setsid to become a daemon gets no error, but stays in the process group.
    allow, refuse, pretend, kill = 0x7FFF0000, 0x00050001, 0x00050000, 0x80000000
    program = [
        (load, 0, 0, 4),  # load the number of the architecture for which the system call was made
        (equal, 1, 0, audit),
        (decide, 0, 0, kill),  # kill a process that makes a system call of another architecture, such as a 32-bit one
        (load, 0, 0, 0),  # load the number of the system call
        (at_least, 0, 1, 0x40000000),
        (decide, 0, 0, kill),  # kill a process that makes a system call of the x32 variant of x86_64
        *(line for call in sockets for line in ((equal, 0, 1, call), (decide, 0, 0, refuse))),
        *(line for call in group_changes for line in ((equal, 0, 1, call), (decide, 0, 0, pretend))),
        (decide, 0, 0, allow),
    ]
    code = b"".join(struct.pack("=HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    _require(libc.prctl(PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0), "sockets")


def _require(result: int, right: str) -> None:
    """Exit if the system call that takes away `right` failed. The command must not run with this right."""
    if result < 0:
        sys.exit(f"this child could not be denied {right}: {os.strerror(ctypes.get_errno())}")


def protections() -> dict[str, bool]:
    """Return for each protection whether this system has it. A current Linux has all of them.

    `files`: a child can open only the files that the caller lists. `network`: a child can't make sockets.
    `escape`: a child can't escape from its process group, so it is killed together with the group.
    `survival`: a child is killed when the worker dies.
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
    except (Exception, SystemExit) as _error:  # noqa: BLE001 - any error here means that the command did not start
        sys.stderr.write(f"{_error}\n")
        sys.exit(NOT_STARTED)
    # main() returns only if it has to run a Python module.
    # runpy is imported only here, because the import would slow down commands.
    import runpy

    sys.argv[:2] = []
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
