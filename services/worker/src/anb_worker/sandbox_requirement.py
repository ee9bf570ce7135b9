"""Stops the worker at startup if its settings require the sandbox, but this system lacks one of the protections."""

import sys
from collections.abc import Mapping

from anb_core.settings.loading import EXIT_MISCONFIGURED

_LACKS = {
    "files": "other files, which takes a Linux kernel with Landlock (5.13 or newer, `landlock` in "
    "/sys/kernel/security/lsm, and no seccomp profile that forbids it)",
    "network": "the network, which takes Linux with seccomp on x86_64 or aarch64",
    "escape": "leaving its process group (killed as one), which takes Linux with seccomp on x86_64 or aarch64",
    "survival": "outliving its worker, which takes Linux",
}
"""The end of the error message for each missing protection: what a child must not do, and which system prevents it."""


def demand(protections: Mapping[str, bool]) -> None:
    """Exit with code 2 and an error message if this system lacks a protection. See `drop_rights.protections`."""
    missing = [_LACKS[name] for name, holds in protections.items() if not holds]
    if missing:
        sys.stderr.write(
            f"configuration: ANB_SANDBOX is require, but this system can't keep a child process that reads an upload "
            f"from {'; nor from '.join(missing)}. Run the worker on such a system, or set ANB_SANDBOX (in the chart "
            "worker.sandbox) to prefer, to run without these protections.\n"
        )
        raise SystemExit(EXIT_MISCONFIGURED)
