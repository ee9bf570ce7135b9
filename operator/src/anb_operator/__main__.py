"""`python -m anb_operator [run | uninstall]` runs the operator until SIGTERM, or the cleanup before an uninstall."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import timedelta

import kopf

from anb_core.bootstrap import open_alerts, open_bucket, open_dead_letter_queue, open_metrics, open_store
from anb_core.domain.errors import AnbError
from anb_core.settings.loading import load_or_exit
from anb_core.telemetry import configure_logging
from anb_operator import app
from anb_operator.client import KubeClient
from anb_operator.connection import Connection
from anb_operator.settings import OperatorSettings, UninstallSettings
from anb_operator.uninstall import uninstall

AWS_PATIENCE = timedelta(seconds=20)
"""Timeout of a call to AWS. The operator's timeout may be longer than a worker's, because the operator has no lease."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 after a clean stop, 1 after an error."""
    parser = argparse.ArgumentParser(prog="python -m anb_operator", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("run", "uninstall"), default="run")
    command = parser.parse_args(arguments).command
    code = 0
    try:
        if command == "uninstall":
            asyncio.run(_uninstall())
        else:
            _run()
    except* (AnbError, kopf.LoginError) as errors:
        for error in _each(errors):
            sys.stderr.write(f"{error}\n")
        code = 1
    return code


def _each(errors: BaseException) -> Iterator[BaseException]:
    if isinstance(errors, BaseExceptionGroup):
        for error in errors.exceptions:
            yield from _each(error)
    else:
        yield errors


def _run() -> None:
    settings = load_or_exit(OperatorSettings)
    configure_logging(settings.log_format, settings.log_level)
    # At INFO, kopf logs each event that it passes to our handler.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    # kopf would log tracebacks when a watch ends. `watch.py` logs one sentence instead.
    for part in ("orchestration", "running"):
        logging.getLogger(f"kopf._core.reactor.{part}").setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        store = stack.enter_context(closing(open_store(settings)))
        objects = stack.enter_context(closing(open_bucket(settings, patience=AWS_PATIENCE)))
        queue = open_dead_letter_queue(settings, patience=AWS_PATIENCE)
        alerts = open_alerts(settings, patience=AWS_PATIENCE)
        metrics = open_metrics(settings, release=f"{settings.namespace}/{settings.instance}", patience=AWS_PATIENCE)
        for client in (queue, alerts, metrics):
            if client is not None:
                stack.enter_context(closing(client))
        asyncio.run(app.run(settings, store, objects, dead_letter_queue=queue, alerts=alerts, metric_sink=metrics))


async def _uninstall() -> None:
    settings = load_or_exit(UninstallSettings)
    configure_logging()
    async with Connection().open() as connection:
        kube = KubeClient(connection, namespace=settings.namespace, watched=settings.watched_namespace)
        await uninstall(kube, settings)


if __name__ == "__main__":
    sys.exit(main())
