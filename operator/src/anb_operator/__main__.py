"""`python -m anb_operator [run | uninstall]`: the operator until SIGTERM, or the clean-up before an uninstall."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence

import kopf

from anb_core.bootstrap import build
from anb_core.domain.errors import AnbError
from anb_core.settings import load_or_exit
from anb_core.telemetry import configure_logging
from anb_operator import app
from anb_operator.client import KubeClient
from anb_operator.settings import OperatorSettings, UninstallSettings
from anb_operator.uninstall import uninstall


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0 after a clean stop."""
    parser = argparse.ArgumentParser(prog="python -m anb_operator", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("run", "uninstall"), default="run")
    command = parser.parse_args(arguments).command
    try:
        if command == "uninstall":
            asyncio.run(_uninstall())
        else:
            _run()
    except (AnbError, kopf.LoginError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _run() -> None:
    settings = load_or_exit(OperatorSettings)
    configure_logging(settings.log_format, settings.log_level)
    # It tells of each event that it handed to us, with all of its settings.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    with build(settings) as core:
        asyncio.run(app.run(core, settings))


async def _uninstall() -> None:
    settings = load_or_exit(UninstallSettings)
    configure_logging()
    kube = KubeClient(namespace=settings.namespace, watched=settings.watched_namespace)
    async with kube.open():
        await uninstall(kube, settings)


if __name__ == "__main__":
    sys.exit(main())
