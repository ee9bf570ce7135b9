"""Tests the step policy with its default numbers in real time. It takes half an hour: see `make e2e-policy`."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.cluster import EVIDENCE
from tests.support.scaling_picture import Sample, draw
from tests.support.scaling_site import Attempt, Site, running_site

PICTURE = Path(__file__).parents[3] / "docs" / "scaling-policy.svg"
CASE, VIDEOS, JOB_SECONDS = "policy", 40, 60
TITLE = f"{VIDEOS} jobs of {JOB_SECONDS} s at once, step policy with its default numbers"

EARLY, LATE = 15, 45
"""Seconds by which a step may be early or late. The autoscaler looks every 15 s. So its window may begin with a look
before the messages arrive, and a step waits for the next look."""


@pytest.mark.timeout(3600)
def test_the_step_policy_adds_and_removes_workers_at_the_times_that_its_default_numbers_say(
    measured: Callable[[str], None],
) -> None:
    with running_site("anb-policy") as site:
        site.add(CASE, job_seconds=JOB_SECONDS)
        site.wait([CASE])
        samples, attempts = observe(site)
        EVIDENCE.mkdir(parents=True, exist_ok=True)
        (EVIDENCE / "policy.json").write_text(json.dumps([asdict(sample) for sample in samples]), encoding="utf-8")
    steps = [(two.at, two.workers) for one, two in pairwise(samples) if one.workers != two.workers]
    many = next(sample.at for sample in samples if sample.visible > 10)
    few = next(sample.at for sample in samples if sample.at > many and sample.total < 3)
    measured(story(many, few, steps))
    assert [workers for _, workers in steps] == [2, 3, 2, 1]
    waits = [steps[0][0] - many, steps[1][0] - steps[0][0], steps[2][0] - few, steps[3][0] - steps[2][0]]
    for wait, wanted in zip(waits, (180, 300, 300, 600), strict=True):
        assert wanted - EARLY <= wait <= wanted + LATE, waits
    assert len({attempt.video for attempt in attempts}) == len(attempts) == VIDEOS
    assert not any(attempt.stopped for attempt in attempts)
    PICTURE.write_text(draw(samples, TITLE), encoding="utf-8")


def observe(site: Site) -> tuple[list[Sample], list[Attempt]]:
    """Send all videos at once, and watch until the last one is done and one worker is left."""
    samples: list[Sample] = []
    attempts: list[Attempt] = []
    site.send(CASE, range(VIDEOS))
    begun = time.monotonic()
    while len(attempts) < VIDEOS or samples[-1].workers > 1:
        samples.append(site.look([CASE], time.monotonic() - begun)[CASE])
        attempts += site.attempts()
        time.sleep(2)
    return samples, attempts


def story(many: float, few: float, steps: list[tuple[float, int]]) -> str:
    """Return what happened when."""
    happened = [(many, "more than 10 messages were visible"), (few, "fewer than 3 messages were left")]
    happened += [(at, f"{workers} worker{'s' if workers > 1 else ''}") for at, workers in steps]
    return ", ".join(f"after {at:.0f} s {what}" for at, what in sorted(happened))
