"""Tests of the judgement about the API's answers during an outage."""

import pytest

from tests.support.outage import Request, failed, requests_of, worst_gap

LINES = ["11.20 200 0.10", "10.00 200 0.05", "10.40 TimeoutError 2.00", "10.20 503 0.01", "16.00 200 0.50"]


def test_requests_are_read_in_the_order_of_their_beginnings() -> None:
    requests = requests_of(LINES)

    assert requests[0] == Request(10.0, 0.05, answered=True)
    assert [(request.begun, request.answered) for request in requests] == [
        (10.0, True),
        (10.2, False),
        (10.4, False),
        (11.2, True),
        (16.0, True),
    ]


def test_the_worst_gap_is_the_longest_time_between_the_ends_of_two_answers() -> None:
    assert worst_gap(requests_of(LINES)) == pytest.approx(5.2)


def test_only_the_requests_of_the_period_count() -> None:
    requests = requests_of(LINES)

    assert failed(requests, after=10.0, before=10.5) == pytest.approx(2 / 3)
    assert failed(requests, after=10.5) == 0
    assert failed(requests, after=10.2, before=10.4) == 1
