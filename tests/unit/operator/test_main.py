"""Tests that the operator process ends with the right exit code, and prints a message for each error."""

import logging
from collections.abc import Iterator
from datetime import timedelta

import kopf
import pytest

from anb_core.domain.errors import Unavailable
from anb_core.ports.alerts import Alerts
from anb_core.ports.metrics import MetricSink
from anb_core.ports.queue import Queue
from anb_core.testing.metrics import InMemoryMetrics
from anb_operator import __main__ as program
from anb_operator import app
from anb_operator.settings import OperatorSettings

LOGGERS = ("kopf", "kopf._core.reactor.orchestration", "kopf._core.reactor.running")


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in {
        "DATABASE_URL": "sqlite:///unused.db",
        "S3_BUCKET": "anb-videos",
        "SQS_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/anb",
        "ANB_OPERATOR_NAMESPACE": "video",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(program, "configure_logging", lambda *_: None)
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def ends(monkeypatch: pytest.MonkeyPatch, error: BaseException | None) -> int:
    async def run(*_: object, **__: object) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(app, "run", run)
    return program.main(["run"])


def test_a_clean_stop_ends_with_0_and_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends(monkeypatch, None) == 0
    assert capsys.readouterr() == ("", "")


def test_each_of_several_errors_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    login = kopf.LoginError("nobody may log in")
    away = Unavailable("database", "the database does not answer")
    assert ends(monkeypatch, ExceptionGroup("tasks", [login, ExceptionGroup("loops", [away])])) == 1
    assert capsys.readouterr().err == f"nobody may log in\n{away}\n"


@pytest.mark.parametrize("topic", ["", "arn:aws:sns:us-east-1:123456789012:anb-alerts"])
def test_the_operator_gets_the_dead_letter_queue_and_alerts_only_if_a_topic_is_set(
    monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    monkeypatch.setenv("ANB_SNS_TOPIC_ARN", topic)
    given: list[tuple[str, bool]] = []

    async def run(*_: object, dead_letter_queue: Queue, alerts: Alerts | None, metric_sink: MetricSink | None) -> None:
        assert metric_sink is None
        given.append((dead_letter_queue.name, alerts is not None))

    monkeypatch.setattr(app, "run", run)
    assert program.main(["run"]) == 0
    assert given == [("https://sqs.us-east-1.amazonaws.com/123456789012/anb-dlq", bool(topic))]


def test_the_metrics_name_the_namespace_and_the_release_of_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANB_OPERATOR_INSTANCE", "anb")
    opened: list[str] = []
    given: list[MetricSink | None] = []
    sink = InMemoryMetrics()

    def open_metrics(_: OperatorSettings, *, release: str, patience: timedelta) -> MetricSink:  # noqa: ARG001
        opened.append(release)
        return sink

    async def run(*_: object, metric_sink: MetricSink | None, **__: object) -> None:
        given.append(metric_sink)

    monkeypatch.setattr(program, "open_metrics", open_metrics)
    monkeypatch.setattr(app, "run", run)
    assert program.main(["run"]) == 0
    assert (opened, given) == (["video/anb"], [sink])


def test_on_a_celery_broker_the_operator_runs_without_a_dead_letter_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQS_QUEUE_URL", "")
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://redis:6379/0")
    given: list[Queue | None] = []

    async def run(*_: object, dead_letter_queue: Queue | None, **__: object) -> None:
        given.append(dead_letter_queue)

    monkeypatch.setattr(app, "run", run)
    assert program.main(["run"]) == 0
    assert given == [None]


def test_a_defect_is_a_traceback_and_no_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        ends(monkeypatch, ExceptionGroup("tasks", [KeyError("a defect")]))
    assert caught.group_contains(KeyError)


def test_a_missing_setting_is_named_before_anything_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ANB_OPERATOR_NAMESPACE")
    with pytest.raises(SystemExit) as ended:
        ends(monkeypatch, None)
    assert ended.value.code == 2
    assert "ANB_OPERATOR_NAMESPACE" in capsys.readouterr().err


def test_kopf_does_not_log_single_events(monkeypatch: pytest.MonkeyPatch) -> None:
    ends(monkeypatch, None)
    assert [logging.getLogger(name).level for name in LOGGERS] == [logging.WARNING, logging.CRITICAL, logging.CRITICAL]
