"""Tests that the processing time that docs/reliability.md promises (L1) agrees with the constants in the code."""

from datetime import timedelta
from pathlib import Path

import pytest

from anb_core.domain.overdue import ATTEMPT_LIMIT
from anb_core.domain.retry import LONGEST_PAUSE
from anb_core.testing.queue import InMemoryQueue
from anb_core.usecases.gate import LONGEST_WAIT
from anb_core.usecases.relay import HOLD, IDLE, RESEND_CAP
from anb_core.usecases.sweep import EMPTY_WINDOW
from anb_worker.settings import WorkerSettings

DOCUMENT = (Path(__file__).parents[3] / "docs" / "reliability.md").read_text(encoding="utf-8")


def default(name: str) -> int:
    value = WorkerSettings.model_fields[name].default
    return int(value.total_seconds()) if isinstance(value, timedelta) else int(value)


V = max(default("visibility_timeout"), int(LONGEST_PAUSE.total_seconds()))
K = int(InMemoryQueue().delay().total_seconds())
VKS = V + K + default("sweep_interval")
LS = default("lease") + default("sweep_interval")
ES = int(EMPTY_WINDOW.total_seconds()) + default("sweep_interval")
R = int((max(HOLD, RESEND_CAP) + IDLE).total_seconds())
G = int(LONGEST_WAIT.total_seconds())
F = default("max_failures")


@pytest.mark.parametrize(
    ("quantity", "seconds"),
    [
        ("V", V),
        ("K", K),
        ("V + K + S", VKS),
        ("L + S", LS),
        ("E + S", ES),
        ("R", R),
        ("G", G),
        ("W", max(VKS, LS, ES) + R + K + G),
        ("D", default("backoff_cap")),
        ("A", int(ATTEMPT_LIMIT.total_seconds())),
        ("B", sum(min(default("backoff_cap"), default("backoff_base") * 2**n) for n in range(F - 1))),
    ],
)
def test_the_stated_time_is_made_of_the_programs_own_figures(quantity: str, seconds: int) -> None:
    [row] = [line for line in DOCUMENT.splitlines() if line.startswith(f"| {quantity} |")]
    assert row.endswith(f"| {seconds} s |")


def test_the_stated_number_of_tries_is_that_of_the_program() -> None:
    [row] = [line for line in DOCUMENT.splitlines() if line.startswith("| F |")]
    assert row.endswith(f"| {F} |")
