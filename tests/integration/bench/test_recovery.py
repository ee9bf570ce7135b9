import re
import sys
from contextlib import nullcontext

import pytest

from bench import recovery
from bench.recovery import SCENARIOS, Row, Site, rate
from tests.support import eventually
from tests.support.parts import Parts

pytestmark = pytest.mark.usefixtures("without_coverage_of_programs")


def test_a_short_run_prints_a_row_for_each_fault_and_says_when_the_work_did_not_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ministack_url: str
) -> None:
    def all_faults(site: Site) -> None:
        for name, fault in SCENARIOS.items():
            # The last fault ends with a crash.
            if name != "a worker crashes":
                fault(site)

    def some_rate(parts: Parts, seconds: float) -> float:
        return eventually(lambda: rate(parts, seconds))

    monkeypatch.setattr(recovery, "rate", some_rate)
    monkeypatch.setattr(recovery, "running_ministack", lambda _: nullcontext(ministack_url))
    monkeypatch.setattr(recovery, "configure_logging", lambda *_: None)
    monkeypatch.setattr(recovery, "SCENARIOS", {"all faults": all_faults})
    for name, value in {"WORKERS": 1, "KILLS": 1, "KILL_EVERY": 0.0, "AWAY": 0.3, "PAUSE": 0.5, "GOAL": 1e9}.items():
        monkeypatch.setattr(recovery, name, value)
    monkeypatch.setitem(recovery.OTHERS, "RENDER_SECONDS", "0")
    monkeypatch.setattr(sys, "argv", ["bench.recovery", "--runs", "1", "--seconds", "0.3"])

    assert recovery.main() == 1

    head, line, row = capsys.readouterr().out.splitlines()
    assert head.startswith("| fault | jobs/s before | ")
    assert line.count("---") == head.count(" | ") + 1
    assert re.fullmatch(r"\| all faults \| [\d.]+ \| [\d.]+ \| \d+ % \| \d+ % \|", row)


def test_a_row_compares_each_rate_with_the_one_before_the_same_fault() -> None:
    row = Row("a fault", before=[2.0, 4.0, 1.0], after=[1.0, 4.0, 1.1])
    assert row.shares == pytest.approx([0.5, 1.0, 1.1])
    assert str(row) == "| a fault | 2.00 | 1.10 | 100 % | 50 % |"
