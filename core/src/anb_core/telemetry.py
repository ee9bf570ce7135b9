"""Structured logging for all programs, and the metrics of jobs and dead letters."""

import logging
import sys
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Literal, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from structlog.typing import EventDict, Processor, WrappedLogger

from anb_core.domain.dead_letters import DeadLetter
from anb_core.domain.errors import Unavailable
from anb_core.domain.model import DeadLetterCause
from anb_core.domain.status import Status
from anb_core.ports.store import DeadLetters, Reading
from anb_core.usecases.receive_dead_letters import Receipt

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


class OpenDeadLettersCollector(Collector):
    """Counts the open dead letters at each scrape. While the database is unavailable, the metric is absent."""

    def __init__(self, store: DeadLetters) -> None:
        self._store = store

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return the metric without values. Without this method, registering the collector would query the database."""
        return [self._family()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        try:
            counts = self._store.open_dead_letters()
        except Unavailable as error:
            _log.warning("dead letters are not counted", reason=error.message)
            return
        family = self._family()
        for cause in DeadLetterCause:
            family.add_metric([cause.value], counts.get(cause, 0))
        yield family

    @staticmethod
    def _family() -> GaugeMetricFamily:
        return GaugeMetricFamily("anb_dead_letters_open", "Dead letters that a person has to handle.", labels=["cause"])


class DeadLetterMetrics:
    """The metrics of dead letters. Every program that can run `make_dead_letter_loops` has these metrics."""

    def __init__(self, store: DeadLetters, registry: CollectorRegistry) -> None:
        registry.register(OpenDeadLettersCollector(store))
        self._announced = Counter(
            "anb_dead_letters", "Dead letters that this process has announced.", ["cause"], registry=registry
        )
        self._messages = Counter(
            "anb_dead_letter_messages",
            "Messages that this process received from the dead-letter queue, by what became of them.",
            ["outcome"],
            registry=registry,
        )
        for cause in DeadLetterCause:
            self._announced.labels(cause)
        for receipt in Receipt:
            self._messages.labels(receipt)

    def count_announced(self, dead_letter: DeadLetter) -> None:
        """Count a dead letter that is announced."""
        self._announced.labels(dead_letter.cause).inc()

    def count_message(self, receipt: Receipt) -> None:
        """Count a message from the dead-letter queue."""
        self._messages.labels(receipt).inc()
