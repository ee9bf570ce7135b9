import pytest

from anb_cli.stack.restart_delay import LONGEST_DELAY, STABLE, Crashes


@pytest.mark.parametrize(
    ("runs", "delay"),
    [
        ([], 0.0),
        ([1.0], 0.5),
        ([1.0, 1.0], 1.0),
        ([1.0, 1.0, 1.0], 2.0),
        ([0.0] * 7, LONGEST_DELAY.total_seconds()),
        ([0.0] * 5000, LONGEST_DELAY.total_seconds()),
        ([STABLE], 0.5),
        ([0.0, 0.0, 0.0, STABLE], 0.5),
        ([STABLE, 1.0], 1.0),
        ([0.0, 0.0, STABLE - 0.1], 2.0),
    ],
)
def test_a_child_waits_longer_after_each_early_end_and_starts_over_after_a_long_run(
    runs: list[float], delay: float
) -> None:
    crashes = Crashes()
    for ran in runs:
        crashes = crashes.after(ran)
    assert crashes.delay == delay
