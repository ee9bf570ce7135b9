"""Structured logging for all programs, and the metric that counts jobs by status."""

import logging
import sys
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Literal, TextIO

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from structlog.typing import EventDict, Processor, WrappedLogger

from anb_core.domain.errors import Unavailable
from anb_core.domain.status import Status
from anb_core.ports.store import Reading

LIBRARIES = ("asyncio", "boto3", "botocore", "PIL", "urllib3")
"""Only warnings and errors of these libraries are logged. Their other log lines may contain signatures of requests."""

FOR_MACHINES = frozenset({"attempt_id", "fence", "logger", "message_id", "outcome", "steps", "task_id"})
"""Log fields that human-readable log lines leave out, unless the log level is `debug`."""

_log = structlog.get_logger(__name__)


def configure_logging(
    log_format: Literal["auto", "json", "text"] = "auto", level: str = "info", *, stream: TextIO | None = None
) -> None:
    """Send all log lines of this process and its libraries to stderr, as JSON objects or as human-readable text."""
    out = stream or sys.stderr
    text = out.isatty() if log_format == "auto" else log_format == "text"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _without_uvicorns_colours,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if text else "iso", utc=not text, key="timestamp"),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_for_people(out, everything=level == "debug") if text else _for_machines()),
            ],
        )
    )
    least = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(handlers=[handler], level=least, force=True)
    for library in LIBRARIES:
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _for_machines() -> list[Processor]:
    return [
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
    ]


def _for_people(out: TextIO, *, everything: bool) -> list[Processor]:
    # Do not use the formatted traceback of rich: it shows local variables, which may contain secrets.
    console = structlog.dev.ConsoleRenderer(
        colors=out.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
    )
    return [console] if everything else [_without_machine_fields, console]


def _without_machine_fields(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: value for name, value in event.items() if name not in FOR_MACHINES}


def _without_uvicorns_colours(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event.pop("color_message", None)
    return event


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        _log.critical("uncaught error", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(hooked: threading.ExceptHookArgs) -> None:
    if hooked.exc_value is not None:
        name = hooked.thread.name if hooked.thread else None
        _log.critical(
            "uncaught error in a thread",
            thread=name,
            exc_info=(hooked.exc_type, hooked.exc_value, hooked.exc_traceback),
        )


class JobsCollector(Collector):
    """Counts the jobs at each scrape by Prometheus. While the database is unavailable, the metric is absent."""

    def __init__(self, store: Reading) -> None:
        self._store = store

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return the metric without values. Without this method, registering the collector would query the database."""
        return [self._family()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        try:
            counts = self._store.count_by_status()
        except Unavailable as error:
            _log.warning("jobs are not counted", reason=error.message)
            return
        family = self._family()
        for status in Status:
            family.add_metric([status.value], counts.get(status, 0))
        yield family

    @staticmethod
    def _family() -> GaugeMetricFamily:
        return GaugeMetricFamily("anb_jobs", "Jobs that are not deleted, by status.", labels=["status"])
