"""Judges the requests that `tests/e2e/zone/reader.py` made during an outage."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the reader."""

    begun: float
    """When the request began, as Unix time in seconds."""
    seconds: float
    """How long the request took."""
    answered: bool
    """Whether the answer had the status 200."""


def requests_of(lines: Iterable[str]) -> list[Request]:
    """Return the requests that the lines of the reader describe, in the order of their beginnings."""
    parts = (line.split() for line in lines)
    return sorted(
        (Request(float(begun), float(seconds), said == "200") for begun, said, seconds in parts),
        key=lambda request: request.begun,
    )


def worst_gap(requests: Sequence[Request]) -> float:
    """Return the longest time without an answer, in seconds. The ends of the requests count."""
    ends = sorted(request.begun + request.seconds for request in requests if request.answered)
    return max(after - before for before, after in pairwise(ends))


def failed(requests: Iterable[Request], *, after: float, before: float = float("inf")) -> float:
    """Return the share of the requests begun in a period that failed, from 0 to 1. There must be such requests."""
    period = [request for request in requests if after <= request.begun < before]
    return sum(not request.answered for request in period) / len(period)
