"""The rules of L1 and L2: the job of every upload ends. A job has at most one result, and the result is complete."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from anb_core.domain.keys import PROCESSED
from anb_core.domain.lifecycle import DELETE_AGAIN_AFTER
from anb_core.domain.model import Ending
from anb_core.domain.status import Status
from anb_core.testing.promises.facts import Facts, Rule
from anb_core.usecases.sweep import DELETION_HOLD

LOSERS_GONE = DELETE_AGAIN_AFTER + timedelta(hours=1)
"""After an attempt ends without a result, its result object must be gone within this time."""


def _every_receipt_is_honoured(facts: Facts) -> Iterator[str]:
    for video_id in facts.evidence.receipts:
        case = facts.cases.get(video_id)
        if case is None:
            if not facts.was_deleted(video_id):
                yield f"A client got the status 202 for video {video_id}, but nobody deleted it and it has no row."
        elif case.job.status is Status.UPLOADING:
            yield f"A client got the status 202 for {case.name}, but its upload is not complete."
        elif facts.at_rest and not case.job.status.terminal and not case.is_scheduled(facts.evidence.now):
            yield f"A client got the status 202 for {case.name}, but it has not reached its end within the stated time."


def _somebody_is_obliged_to_every_waiting_job(facts: Facts) -> Iterator[str]:
    for case in facts.cases.values():
        if case.waits and not case.entries and case.job.enqueued_at is None:
            yield f"Nothing wakes a worker for {case.name}: no outbox entry, no message was ever sent."


def _at_most_one_result_is_current(facts: Facts) -> Iterator[str]:
    for case in facts.cases.values():
        job, winners = case.job, [one for one in case.attempts if one.ending is Ending.PROCESSED]
        if job.result is None:
            yield from (f"Attempt {one.id} published a result of {case.name}, which has none." for one in winners)
        elif [(one.result_key, one.fence, one.generation) for one in winners] != [
            (job.result.key, job.fence, job.generation)
        ]:
            keys = [one.result_key for one in winners]
            yield (
                f"The result of {case.name} is {job.result.key}, but the attempts that published are {keys}, "
                f"and the job's fence is {job.fence}."
            )


def _fences_order_the_attempts(facts: Facts) -> Iterator[str]:
    for case in facts.cases.values():
        job = case.job
        fences = [attempt.fence for attempt in case.attempts]
        generations = [attempt.generation for attempt in case.attempts]
        if len(set(fences)) < len(fences) or max(fences, default=0) > job.fence:
            yield f"The attempts of {case.name} have the fences {fences}, and the job has {job.fence}."
        if generations != sorted(generations) or max(generations, default=1) > job.generation:
            yield f"The attempts of {case.name} have, in the order of fences, the generations {generations}."
        running = [(one.id, one.fence, one.generation) for one in case.attempts if one.ended_at is None]
        if running != ([(job.lease_owner, job.fence, job.generation)] if job.lease_owner else []):
            yield (
                f"The lease of {case.name} belongs to attempt {job.lease_owner} with fence {job.fence}, "
                f"but the attempts that run are {running}."
            )


def _no_needed_object_is_deleted(facts: Facts) -> Iterator[str]:
    for case in facts.cases.values():
        video, job = case.record.video, case.job
        if not video.owned and video.source_key in facts.due:
            yield f"The object {video.source_key} is not ours, but it is scheduled for deletion."
        if case.deleted:
            continue
        needed = [one.result_key for one in case.attempts if one.ended_at is None]
        if job.result:
            needed.append(job.result.key)
        if video.source or job.status is Status.UPLOADING:
            needed.append(video.source_key)
        yield from (f"{case.name} needs {key}, which is scheduled for deletion." for key in needed if key in facts.due)


def _needed_objects_are_whole(facts: Facts) -> Iterator[str]:
    objects = facts.evidence.objects
    if objects is None:
        return
    for case in facts.cases.values():
        video, job = case.record.video, case.job
        needed = {job.result.key: job.result.size} if job.result else {}
        if video.owned and video.source:
            needed[video.source_key] = video.source.size
        for key, size in needed.items():
            if not case.deleted and objects.get(key) != size:
                yield f"{case.name} needs {key} with {size} bytes, but the bucket has {objects.get(key, 'no object')}."


def _unneeded_objects_are_deleted(facts: Facts) -> Iterator[str]:
    objects, now = facts.evidence.objects, facts.evidence.now
    if objects is None:
        return
    for case in facts.cases.values():
        ended = {one.result_key: one.ended_at for one in case.attempts if one.ended_at}
        if case.deleted and case.record.video.owned:
            ended[case.record.video.source_key] = case.job.updated_at
        if case.job.result and not case.deleted:
            ended.pop(case.job.result.key, None)
        for key in ended.keys() & objects.keys():
            due, last = facts.due.get(key), ended[key] + LOSERS_GONE
            if due is None:
                yield f"{case.name} does not need {key}, but the object exists and is not scheduled for deletion."
            elif not case.deleted and (due > max(last, now + DELETION_HOLD) or (facts.at_rest and now > last)):
                yield (
                    f"{case.name} does not need {key} since {ended[key]}, but the object still exists at {now}, "
                    f"and the next deletion is due at {due}."
                )
    for key in objects.keys() - {attempt.result_key for attempt in facts.evidence.attempts}:
        if key.startswith(PROCESSED) and _is_left_over(key, facts):
            yield f"The object {key} belongs to no attempt, and nothing will delete it."


def _is_left_over(key: str, facts: Facts) -> bool:
    """Return whether it is certain that no attempt owns a result object. No attempt in the evidence owns it.

    The objects are read later than the rows. So an attempt that began after the rows were read may own the object.
    """
    video_id, _, rest = key.removeprefix(PROCESSED).partition("/")
    fence, case = rest.partition("-")[0], facts.cases.get(video_id)
    if facts.at_rest or not fence.isdecimal():
        return True
    return int(fence) <= case.job.fence if case else facts.was_deleted(video_id)


RULES: Sequence[tuple[str, Rule]] = (
    ("L1", _every_receipt_is_honoured),
    ("L1", _somebody_is_obliged_to_every_waiting_job),
    ("L2", _at_most_one_result_is_current),
    ("L2", _fences_order_the_attempts),
    ("L2", _no_needed_object_is_deleted),
    ("L2", _needed_objects_are_whole),
    ("L2", _unneeded_objects_are_deleted),
)
