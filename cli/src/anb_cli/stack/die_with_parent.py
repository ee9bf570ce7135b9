"""Start a program that ends with its parent: `python die_with_parent.py PARENT SIGNAL PROGRAM ARGUMENTS...`.

The kernel sends SIGNAL when the process PARENT dies, however it dies. Linux only: elsewhere, a supervisor that is
killed leaves its children running. A script of its own, because only a fresh process may safely do such things.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def command_line(command: list[str], death_signal: int) -> list[str]:
    """The command line that runs `command`, and sends it `death_signal` when this process dies."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(death_signal)), *command]


def main(parent: int, death_signal: int, command: list[str]) -> None:
    """Become the command."""
    if sys.platform == "linux":
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
        if os.getppid() != parent:
            sys.exit(f"process {parent} is gone already")
    os.execvp(command[0], command)  # noqa: S606 - the supervisor's own command, without a shell


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
