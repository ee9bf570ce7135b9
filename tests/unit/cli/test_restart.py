import pytest

from anb_cli.stack.restart import LONGEST_DELAY, STABLE, Deaths


@pytest.mark.parametrize(
    ("lives", "delay"),
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
def test_a_child_waits_longer_with_each_early_death_and_starts_over_after_a_long_life(
    lives: list[float], delay: float
) -> None:
    deaths = Deaths()
    for lived in lives:
        deaths = deaths.after(lived)
    assert deaths.delay == delay
