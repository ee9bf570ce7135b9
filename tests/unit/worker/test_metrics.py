import pytest

from anb_core.domain.model import Counters
from anb_core.domain.retry import INTERRUPTIONS_ALARM
from anb_core.usecases.report import Outcome, Report
from anb_worker.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_is_counted_from_zero_on(metrics: Metrics, outcome: Outcome) -> None:
    counted = [metrics.registry.get_sample_value("anb_worker_deliveries_total", {"outcome": outcome})]
    metrics.count(Report(outcome, "m"))
    counted.append(metrics.registry.get_sample_value("anb_worker_deliveries_total", {"outcome": outcome}))
    assert counted == [0, 1]


def test_only_the_steps_of_processed_jobs_are_measured(metrics: Metrics) -> None:
    for outcome in Outcome:
        metrics.count(Report(outcome, "m", steps={"download": 1.5}))
    assert metrics.registry.get_sample_value("anb_worker_step_seconds_count", {"step": "download"}) == 1
    assert metrics.registry.get_sample_value("anb_worker_step_seconds_sum", {"step": "download"}) == 1.5


@pytest.mark.parametrize(
    ("outcome", "interruptions", "alarms"),
    [
        (Outcome.HANDED_ON, INTERRUPTIONS_ALARM - 1, 0),
        (Outcome.HANDED_ON, INTERRUPTIONS_ALARM, 1),
        (Outcome.PROCESSED, INTERRUPTIONS_ALARM, 0),
    ],
)
def test_twenty_interruptions_raise_an_alarm(
    metrics: Metrics, outcome: Outcome, interruptions: int, alarms: int
) -> None:
    metrics.count(Report(outcome, "m", "v", counters=Counters(interruptions=interruptions)))
    assert metrics.registry.get_sample_value("anb_worker_interruption_alarms_total") == alarms


def test_the_metric_shows_each_protection(metrics: Metrics) -> None:
    protections = {"files": False, "network": True, "escape": True, "survival": True}
    metrics.show_protections(protections)
    values = {
        name: metrics.registry.get_sample_value("anb_worker_sandbox", {"protection": name}) for name in protections
    }
    assert values == {"files": 0, "network": 1, "escape": 1, "survival": 1}
