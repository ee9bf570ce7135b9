"""Checks the evidence by all rules."""

from dataclasses import dataclass

from anb_core.domain.retry import RetryPolicy
from anb_core.testing.promises import counts, results
from anb_core.testing.promises.evidence import Evidence
from anb_core.testing.promises.facts import Facts


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that is broken. `promise` is its name, `sentence` says what is wrong, with ids and values."""

    promise: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.sentence}"


def violations(evidence: Evidence, policy: RetryPolicy, *, at_rest: bool = False) -> list[Violation]:
    """Return all violations of the promises that the evidence shows.

    Without `at_rest`, only rules are checked that hold at any moment of a run.
    With `at_rest`, faults have stopped and the stated time has passed, so all work must be done.
    """
    facts = Facts(evidence, policy, at_rest)
    return [
        Violation(promise, sentence) for promise, rule in (*results.RULES, *counts.RULES) for sentence in rule(facts)
    ]


def check_promises(evidence: Evidence, policy: RetryPolicy, *, at_rest: bool = False) -> None:
    """Check the promises like `violations`.

    Raises:
        AssertionError: a promise is broken. The message has one line for each violation.
    """
    found = violations(evidence, policy, at_rest=at_rest)
    if found:
        raise AssertionError("\n".join(["promises are broken:", *map(str, found)]))
