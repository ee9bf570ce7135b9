"""Runs a program that ends when its parent ends: `python die_with_parent.py PARENT SIGNAL PROGRAM ARGUMENTS...`.

The kernel sends SIGNAL to the program when the process with id PARENT dies for any reason. This works only on Linux.
On systems other than Linux, the child processes of a killed supervisor keep running.
This is a separate script, because a process with threads can't safely run Python code between fork and exec.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def command_line(command: list[str], death_signal: int) -> list[str]:
    """Return a command line that runs `command`, and sends `death_signal` to `command` when the caller dies."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(death_signal)), *command]


def main(parent: int, death_signal: int, command: list[str]) -> None:
    """Make the kernel send `death_signal` when the parent dies, and replace the current process with the command."""
    if sys.platform == "linux":
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
        if os.getppid() != parent:
            sys.exit(f"process {parent} has ended already")
    os.execvp(command[0], command)  # noqa: S606 - the supervisor's own command, without a shell


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
