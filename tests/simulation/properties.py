"""The properties that every run has, and how often the condition of each property occurred.

The rules are those of the checker, which also judges the runs of real programs. If the condition
of a property never occurred, the runs prove nothing about it, so that a large set of such runs fails.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from anb_core.domain.dead_letters import Resolution
from anb_core.domain.model import Ending
from anb_core.domain.retry import RetryPolicy
from anb_core.domain.status import Status
from anb_core.testing.promises import Evidence, Violation
from anb_core.testing.promises.changes import RULES as CHANGES
from anb_core.testing.promises.counts import RULES as COUNTS
from anb_core.testing.promises.facts import Case, Facts, Rule
from anb_core.testing.promises.results import RULES as RESULTS


def _only_expired_leases_are_lost(facts: Facts) -> Iterator[str]:
    for case in facts.cases.values():
        before = facts.earlier.cases.get(case.job.video_id) if facts.earlier else None
        expiry = before.job.lease_expires_at if before else None
        for attempt in case.ended(Ending.LOST):
            if before and expiry and attempt.id == before.job.lease_owner and (attempt.ended_at or expiry) < expiry:
                yield f"{attempt.id} of {case.name} was lost at {attempt.ended_at}, but its lease lasts until {expiry}."


def _only_failed_renders_are_failures(facts: Facts) -> Iterator[str]:
    for case in facts.cases.values():
        for attempt in case.ended(Ending.FAILED):
            if attempt.error is None or attempt.error.code != "verification_failed":
                yield f"{attempt.id} of {case.name} counts as a failure because of {attempt.error}."


def _no_message_is_recorded_twice(facts: Facts) -> Iterator[str]:
    recorded = Counter(letter.message_id for letter in facts.evidence.dead_letters if letter.message_id)
    yield from (f"The message {name} is recorded {times} times." for name, times in recorded.items() if times > 1)


def _only_a_job_without_a_result_that_is_over_begins_again(facts: Facts) -> Iterator[str]:
    for video_id, before in (facts.earlier.cases if facts.earlier else {}).items():
        case, status = facts.cases.get(video_id), before.job.status
        if case and case.job.generation > before.job.generation and (not status.terminal or status is Status.PROCESSED):
            yield f"{case.name} begins again, though it was {status}."


def _no_resolution_changes(facts: Facts) -> Iterator[str]:
    resolved = {one.id: one for one in facts.evidence.dead_letters if not one.open}
    for before in facts.earlier.evidence.dead_letters if facts.earlier else ():
        now = resolved.get(before.id, before)
        if not before.open and now.resolution is not before.resolution:
            yield f"Dead letter {now.id} was {before.resolution}, and is {now.resolution}."


RULES: Sequence[tuple[str, Rule]] = (
    *RESULTS,
    *COUNTS,
    *CHANGES,
    ("L4", _only_expired_leases_are_lost),
    ("L4", _no_message_is_recorded_twice),
    ("L4", _only_a_job_without_a_result_that_is_over_begins_again),
    ("L4", _no_resolution_changes),
    ("L7", _only_failed_renders_are_failures),
)
"""The rules of the checker, and rules that need to know which faults are possible in a run."""

Condition = Callable[[Case, Facts], bool]

CONDITIONS: Mapping[str, Condition] = {
    "L1: an upload got its 202, and its job needed several attempts": lambda case, facts: (
        case.job.video_id in facts.evidence.receipts and len(case.attempts) > 1
    ),
    "L1: a job waits without an outbox entry": lambda case, _: case.waits and not case.entries,
    "L2: a video has a result and a losing attempt": lambda case, _: (
        case.job.result is not None and len(case.attempts) > 1
    ),
    "L2: an attempt was taken over": lambda case, _: bool(case.ended(Ending.LOST)) and case.job.lease_owner is not None,
    "L3: a message was deleted while its job was unfinished": lambda case, facts: (
        not case.job.status.terminal and len(set(facts.evidence.sent)) > len(set(facts.evidence.messages or ()))
    ),
    "L4: more messages came than attempts were made": lambda case, facts: (
        case.job.status.terminal and len(facts.evidence.sent) > len(facts.evidence.attempts)
    ),
    "L4: an attempt failed": lambda case, _: bool(case.ended(Ending.FAILED)),
    "L5: an attempt was rejected": lambda case, _: bool(case.ended(Ending.REJECTED)),
    "L6: the feed has an event of a deletion": lambda case, _: case.deleted,
    "L7: an attempt was interrupted": lambda case, _: bool(case.ended(Ending.INTERRUPTED)),
    "L7: an attempt was lost": lambda case, _: bool(case.ended(Ending.LOST)),
    "L7: a job is a dead letter": lambda case, _: case.job.status is Status.DEAD_LETTERED,
    "a person redrove a dead letter": lambda case, _: any(
        one.resolution is Resolution.REDRIVEN for one in case.letters
    ),
    "a person discarded a dead letter": lambda case, _: any(
        one.resolution is Resolution.DISCARDED for one in case.letters
    ),
    "a job waits for its time": lambda case, facts: case.is_scheduled(facts.evidence.now),
    "a person retried a job": lambda case, _: case.job.generation > 1,
    "a person cancelled a job": lambda case, _: case.job.status is Status.CANCELLED,
}
"""For each property that is about a video, when its condition is true."""


@dataclass(slots=True)
class Properties:
    """Checks the properties of one run. `seen` has 1 for each condition that occurred."""

    policy: RetryPolicy
    seen: Counter[str] = field(default_factory=Counter)
    found: list[Violation] = field(default_factory=list)
    _unseen: dict[str, Condition] = field(default_factory=lambda: dict(CONDITIONS))
    _earlier: Facts | None = None

    def violated(self, evidence: Evidence, *, at_rest: bool = False) -> bool:
        """Check all rules, and add each violation to `found`. Return whether there is one."""
        facts = Facts(evidence, self.policy, at_rest=at_rest, earlier=self._earlier)
        self.found += [Violation(promise, sentence) for promise, rule in RULES for sentence in rule(facts)]
        for case in facts.cases.values():
            for name in [name for name, condition in self._unseen.items() if condition(case, facts)]:
                self.seen[name] = 1
                del self._unseen[name]
        facts.earlier = None
        self._earlier = facts
        return bool(self.found)

    def broken(self, promise: str, sentence: str) -> None:
        """Add a violation that the rules can't see."""
        self.found.append(Violation(promise, sentence))
