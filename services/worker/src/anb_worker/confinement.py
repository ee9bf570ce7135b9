"""From what this system keeps the children that read uploads, where the settings demand it."""

import sys
from collections.abc import Mapping

from anb_core.settings.loading import EXIT_MISCONFIGURED

_WORDS = {
    "files": "other files, which takes a Linux kernel with Landlock (5.13 or newer, `landlock` in "
    "/sys/kernel/security/lsm, and no seccomp profile that forbids it)",
    "network": "the network, which takes Linux with seccomp on x86_64 or aarch64",
    "escape": "leaving the group that is killed with it, which takes Linux with seccomp on x86_64 or aarch64",
    "survival": "outliving its worker, which takes Linux",
}


def demand(there: Mapping[str, bool]) -> None:
    """Exit with 2 and a sentence unless everything is there; see `drop_rights.protections`."""
    missing = [_WORDS[name] for name, kept in there.items() if not kept]
    if missing:
        sys.stderr.write(
            f"configuration: ANB_SANDBOX is require, and this system can't keep what reads an upload from "
            f"{'; nor from '.join(missing)}. Run the worker on such a system, or set ANB_SANDBOX (in the chart "
            "worker.sandbox) to prefer, to do without.\n"
        )
        raise SystemExit(EXIT_MISCONFIGURED)
