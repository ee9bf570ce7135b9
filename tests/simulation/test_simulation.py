"""Tests that no order of calls and no faults break a promise, and that the simulation would notice it if they did."""

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.simulation.exhaustive import FAILED_RENDER, FAULTS, PREEMPTIONS, Search
from tests.simulation.faults import Fault, Kind, Place
from tests.simulation.mutants import MUTANTS, SEEDS_A_MUTANT
from tests.simulation.setup import Setup
from tests.simulation.simulation import ENOUGH, NAMES, Run, each_single_fault, run, shrink, told
from tests.simulation.weakening import Mutant

SEEDS = range(20_000)

PARTS = 16
"""Number of tests of the exhaustive search."""

DEATH_IN_RENDER = {Place("worker-1", 6): Fault(Kind.DIE_AFTER, 30.0)}

LOST_CLAIM = {Place("worker-1", 3): Fault(Kind.LOSE_ANSWER)}


def test_without_a_fault_every_video_is_processed_at_once() -> None:
    good = run(1, {}, story=True)
    assert good.violations == []
    assert good.seen["L1: a job waits without an outbox entry"]
    assert not good.seen["L7: an attempt was lost"]
    assert sum("database.publish" in line for line in good.story) == good.setup.uploads


def test_a_worker_that_dies_is_replaced() -> None:
    survived = run(1, DEATH_IN_RENDER, story=True)
    assert survived.violations == []
    assert survived.seen["L7: an attempt was lost"]
    assert any("!! call 6 of worker-1: the process dies" in line for line in survived.story)


def test_a_seed_always_gives_the_same_run_and_its_schedule_gives_it_again() -> None:
    for seed in range(10):
        first = run(seed, story=True)
        assert run(seed, story=True) == first
        assert run(seed, first.schedule, story=True) == first


def test_a_violation_is_shrunk_to_the_faults_that_it_needs_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    [mutant] = [one for one in MUTANTS if one.guard == "the sweep ends expired leases"]
    mutant.weaken(monkeypatch)
    assert run(1, LOST_CLAIM, judged_from=Place("worker-1", 3)).violations == run(1, LOST_CLAIM).violations
    superfluous = {
        Place("worker-2", 2): Fault(Kind.WAIT, 1.0),
        Place("api/relay", 1): Fault(Kind.SEND_TWICE),
    }
    found = run(1, {**superfluous, **LOST_CLAIM})
    assert found.violations
    shrunk = shrink(found)
    assert shrunk.schedule == LOST_CLAIM
    story = told(shrunk)
    assert "L1: A client got the status 202" in story
    assert "!! call 3 of worker-1: the call succeeds, but its answer is lost" in story


@pytest.mark.chaos
@pytest.mark.parametrize("first", SEEDS[::ENOUGH])
def test_no_seed_breaks_a_promise_and_every_condition_occurs(first: int) -> None:
    seen = Counter[str]()
    for seed in SEEDS[first : first + ENOUGH]:
        done = run(seed)
        if done.violations:
            pytest.fail(told(shrink(done)))
        seen += done.seen
    assert not set(NAMES) - seen.keys(), "these conditions never occurred, so the runs prove nothing about their rules"


@pytest.mark.chaos
def test_no_single_fault_at_any_call_breaks_a_promise_after_a_failed_try() -> None:
    runs = 0
    for done in each_single_fault(FAILED_RENDER):
        runs += 1
        if done.violations:
            pytest.fail(told(shrink(done)))
    assert runs > 800


@pytest.mark.chaos
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(
    ("first", "second"),
    [(FAULTS, (*FAULTS, *PREEMPTIONS)), (PREEMPTIONS, FAULTS)],
    ids=["a fault first", "a preemption first"],
)
def test_no_two_events_break_a_promise_after_a_failed_try(
    first: Sequence[Fault], second: Sequence[Fault], part: int
) -> None:
    runs = 0
    for done in Search(FAILED_RENDER, (first, second), part, PARTS).runs():
        runs += 1
        if done.violations:
            pytest.fail(told(shrink(done)))
    assert runs > 10


def test_a_search_tries_each_event_at_each_call_after_the_events_before_it() -> None:
    fail, reject, keep = Kind.FAIL, Kind.REJECT, Kind.KEEP
    search = Search({}, [[Fault(fail)], [Fault(reject)], [Fault(keep)]])
    tried = Counter(tuple(fault.kind for fault in done.schedule.values()) for done in search.runs())
    seconds = Setup().render_seconds
    assert (tried[()], tried[fail,], tried[fail, reject]) == (1, seconds, seconds * seconds)
    assert tried.keys() == {(), (fail,), (fail, reject), (fail, reject, keep)}


@pytest.mark.chaos
def test_one_seed_can_be_run_alone_though_most_conditions_then_never_occur() -> None:
    command = [sys.executable, "-m", "tests.simulation", "7", "1"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "        0 x L7: an attempt was lost" in done.stdout


def test_the_base_of_the_search_has_a_failed_try() -> None:
    assert run(0, FAILED_RENDER, setup=Setup()).seen["L4: an attempt failed"]


def broken(done: Run) -> set[str]:
    """Return the promises that a run breaks."""
    return {violation.partition(":")[0] for violation in done.violations}


@pytest.mark.chaos
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.guard)
def test_a_weakened_guard_is_noticed(mutant: Mutant) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutant.weaken(patch)
        runs = (run(seed, focus=mutant.focus) for seed in SEEDS_A_MUTANT)
        # In some runs a program finds what can't be, and ends with an error before a promise is broken.
        found = next((done for done in runs if broken(done) & {*mutant.promises}), None)
    assert found, "no seed shows that this guard is needed"
    assert run(found.seed, focus=mutant.focus).violations == [], "this seed also breaks the real code"


def test_the_document_shows_the_table_of_guards() -> None:
    document = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")
    _, _, table = document.partition("\n| guard | where | promises that notice it |\n|---|---|---|\n")
    rows = [f"| {one.guard} | `{one.where}` | {', '.join(one.promises)} |" for one in MUTANTS]
    assert sorted(table.partition("\n\n")[0].splitlines()) == sorted(rows)
