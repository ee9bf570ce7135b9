"""Applies the rules of all promises to the evidence."""

from dataclasses import dataclass

from anb_core.domain.retry import RetryPolicy
from anb_core.testing.promises import changes, counts, results
from anb_core.testing.promises.evidence import Evidence
from anb_core.testing.promises.facts import Facts


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise. `promise` is the name of the promise. `sentence` says what is wrong, with ids and values."""

    promise: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.sentence}"


def violations(
    evidence: Evidence, policy: RetryPolicy, *, at_rest: bool = False, earlier: Evidence | None = None
) -> list[Violation]:
    """Return all broken promises that can be seen in the evidence.

    Without `at_rest`, check only the rules that must hold even while work is going on.
    With `at_rest`, the rules for a finished run are checked too: no work may be left.
    For `at_rest`, the caller must have ended all simulated faults, and must have waited as long as the promises allow.
    `earlier` is what was read at an earlier moment of the same run.
    With `earlier`, also find results, counters and statuses that were set then and are lost now.
    """
    before = None if earlier is None else Facts(earlier, policy)
    facts = Facts(evidence, policy, at_rest=at_rest, earlier=before)
    rules = (*results.RULES, *counts.RULES, *changes.RULES)
    return [Violation(promise, sentence) for promise, rule in rules for sentence in rule(facts)]


def check_promises(
    evidence: Evidence, policy: RetryPolicy, *, at_rest: bool = False, earlier: Evidence | None = None
) -> None:
    """Check the promises like `violations`.

    Raises:
        AssertionError: a promise is broken. The message has one line for each violation.
    """
    found = violations(evidence, policy, at_rest=at_rest, earlier=earlier)
    if found:
        raise AssertionError("\n".join(["promises are broken:", *map(str, found)]))
