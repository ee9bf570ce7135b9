from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anb_core.domain.backoff import backoff

SECOND = timedelta(seconds=1)
CAP = timedelta(seconds=30)
counts = st.integers(1, 10**9)
jitters = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (7, 30)])
def test_the_wait_doubles_with_every_failure_up_to_its_cap(failures: int, seconds: int) -> None:
    assert backoff(failures, base=SECOND, cap=CAP, jitter=1) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("jitter", "least", "seconds"), [(0, 0.5, 4), (0.5, 0.5, 6), (0, 0, 0), (0.5, 0, 4), (0.25, 0, 2), (0, 1, 8)]
)
def test_jitter_picks_a_share_between_the_least_and_all_of_it(jitter: float, least: float, seconds: float) -> None:
    assert backoff(4, base=SECOND, cap=CAP, jitter=jitter, least=least) == timedelta(seconds=seconds)


@given(failures=counts, jitter=jitters, least=st.floats(0, 1))
def test_no_number_of_failures_makes_a_wait_shorter_or_longer_than_its_cap(
    failures: int, jitter: float, least: float
) -> None:
    wait = backoff(failures, base=SECOND, cap=CAP, jitter=jitter, least=least)
    assert timedelta(0) <= wait <= CAP
    assert backoff(failures + 1, base=SECOND, cap=CAP, jitter=jitter, least=least) >= wait


def test_the_longest_base_that_settings_allow_does_not_overflow() -> None:
    day = timedelta(days=1)
    assert backoff(10**9, base=timedelta(hours=1), cap=day, jitter=1) == day
