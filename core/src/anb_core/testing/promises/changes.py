"""The rules of the promise L4 that compare two moments of the same run: no outcome is undone."""

from collections.abc import Iterator, Sequence

from anb_core.testing.promises.facts import Case, Facts, Rule

GROWING = ("generation", "fence", "version", "attempts")
"""The numbers of a job that never become smaller."""


def _numbers_never_fall(facts: Facts) -> Iterator[str]:
    for before, case in _pairs(facts):
        for name in GROWING:
            was, now = getattr(before.job, name), getattr(case.job, name)
            if now < was:
                yield f"The {name} of {case.name} was {was} and is {now}."


def _no_outcome_changes(facts: Facts) -> Iterator[str]:
    for before, case in _pairs(facts):
        if before.deleted and not case.deleted:
            yield f"{case.name} was deleted, but is not deleted any more."
        if before.job.generation != case.job.generation:
            continue
        was, now = before.job.counters, case.job.counters
        if now.failures < was.failures or now.lost < was.lost or now.interruptions < was.interruptions:
            yield f"{case.name} had the counters {was} and has {now}, though nobody retried it."
        if before.job.status.terminal and (before.job.status, before.job.result) != (case.job.status, case.job.result):
            yield (
                f"{case.name} was {before.job.status} with the result {before.job.result}, "
                f"and now has the result {case.job.result}, though nobody retried it."
            )


def _events_are_only_appended(facts: Facts) -> Iterator[str]:
    seen = {event.id for event in facts.earlier.evidence.events} if facts.earlier else set()
    last = max(seen, default=0)
    for event in facts.evidence.events:
        if event.id <= last and event.id not in seen:
            yield f"Event {event.id} was added before event {last}, which readers may have passed."


def _pairs(facts: Facts) -> Iterator[tuple[Case, Case]]:
    """For each job that exists at both moments, yield its case at the earlier moment and its case now."""
    for video_id, before in (facts.earlier.cases if facts.earlier else {}).items():
        case = facts.cases.get(video_id)
        if case and case.job.id == before.job.id:
            yield before, case


RULES: Sequence[tuple[str, Rule]] = (
    ("L4", _numbers_never_fall),
    ("L4", _no_outcome_changes),
    ("L4", _events_are_only_appended),
)
