import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry

from anb_core.domain.errors import Unavailable
from anb_core.domain.status import Status
from anb_core.telemetry import JobsCollector, configure_logging

log = structlog.get_logger("anb_worker.journal")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, sys.excepthook, threading.excepthook)
    configured = structlog.get_config()
    yield
    logging.captureWarnings(capture=False)
    structlog.configure(**configured)
    root.handlers[:], level, sys.excepthook, threading.excepthook = before
    root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_for_machines_is_one_json_object_with_all_that_is_known() -> None:
    stream = io.StringIO()
    configure_logging("json", stream=stream)

    with structlog.contextvars.bound_contextvars(video_id="0197"):
        log.info("processed in 3.1 s", fence=4, steps={"render": 2.5})

    [line] = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "message": "processed in 3.1 s",
        "level": "info",
        "logger": "anb_worker.journal",
        "video_id": "0197",
        "fence": 4,
        "steps": {"render": 2.5},
    }


def test_a_person_is_spared_what_only_machines_need() -> None:
    stream = io.StringIO()
    configure_logging("text", stream=stream)

    log.info("processed in 3.1 s", video_id="0197", fence=4, attempt_id="a-1", steps={"render": 2.5})

    [line] = stream.getvalue().splitlines()
    assert line[8:] == " [info     ] processed in 3.1 s video_id=0197"


def test_a_person_who_asks_for_debug_sees_everything() -> None:
    stream = io.StringIO()
    configure_logging("text", "debug", stream=stream)

    log.debug("claimed", fence=4)

    assert "fence=4" in stream.getvalue()


def test_a_terminal_gets_text_and_anything_else_gets_json() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    configure_logging("auto", stream=terminal)
    log.info("one")
    configure_logging("auto", stream=pipe)
    log.info("two")

    assert "one" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")
    assert [line["message"] for line in lines(pipe)] == ["two"]


def test_libraries_speak_through_the_same_mouth() -> None:
    stream = io.StringIO()
    configure_logging("json", stream=stream)

    logging.getLogger("uvicorn.error").info("started %s", "well", extra={"color_message": "started %s", "port": 8000})
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    first, second = lines(stream)
    assert (first["message"], first["logger"], first["port"]) == ("started well", "uvicorn.error", 8000)
    assert "color_message" not in first
    assert "DeprecationWarning: old" in second["message"]


@pytest.mark.parametrize(("level", "heard"), [("debug", ["d", "i", "w"]), ("info", ["i", "w"]), ("warning", ["w"])])
def test_less_important_lines_than_asked_for_are_left_out(level: str, heard: list[str]) -> None:
    stream = io.StringIO()
    configure_logging("json", level, stream=stream)

    log.debug("d")
    log.info("i")
    log.warning("w")

    assert [line["message"] for line in lines(stream)] == heard


def test_botocore_says_nothing_of_its_own_doings_where_signatures_would_be_logged() -> None:
    stream = io.StringIO()
    configure_logging("json", "debug", stream=stream)

    logging.getLogger("botocore.auth").debug("Signature: ...")
    logging.getLogger("botocore.credentials").info("Found credentials in environment variables.")

    assert lines(stream) == []


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_an_error_is_logged_with_its_traceback_and_without_local_variables(log_format: Any) -> None:
    stream = io.StringIO()
    configure_logging(log_format, stream=stream)

    def fail(password: str) -> None:
        raise RuntimeError(f"{len(password)} letters")

    try:
        fail("hunter2")
    except RuntimeError:
        log.exception("it failed")

    assert "RuntimeError: 7 letters" in stream.getvalue()
    assert "in fail" in stream.getvalue()
    assert "'hunter2'" not in stream.getvalue()
    assert log_format == "text" or len(lines(stream)) == 1


def test_errors_that_nobody_caught_are_logged_too() -> None:
    stream = io.StringIO()
    configure_logging("json", stream=stream)

    thread = threading.Thread(target=lambda: int("seven"), name="relay")
    thread.start()
    thread.join()
    sys.excepthook(RuntimeError, RuntimeError("the end"), None)

    first, second = lines(stream)
    assert (first["level"], first["thread"]) == ("critical", "relay")
    assert "invalid literal for int" in first["exception"]
    assert "RuntimeError: the end" in second["exception"]


class Counting:
    def __init__(self, counts: dict[Status, int] | Unavailable) -> None:
        self.counts = counts
        self.asked = 0

    def count_by_status(self) -> dict[Status, int]:
        self.asked += 1
        if isinstance(self.counts, Unavailable):
            raise self.counts
        return self.counts


def registered(store: Counting) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(JobsCollector(store))  # type: ignore[arg-type]
    return registry


def test_jobs_are_counted_by_status_when_somebody_asks_and_not_before() -> None:
    store = Counting({Status.PROCESSED: 7})
    registry = registered(store)
    assert store.asked == 0

    assert registry.get_sample_value("anb_jobs", {"status": "processed"}) == 7
    assert registry.get_sample_value("anb_jobs", {"status": "dead_lettered"}) == 0


def test_jobs_are_absent_while_the_database_is_away() -> None:
    registry = registered(Counting(Unavailable("database", "It is away.")))

    assert registry.get_sample_value("anb_jobs", {"status": "processed"}) is None
