"""The rules of L3 to L7: no message is lost, counters are right, feeds and VideoJobs show all changes."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import lru_cache

from anb_core.domain.adoption import OURS
from anb_core.domain.codes import VIDEOS
from anb_core.domain.dead_letters import SHORT_BODY, Resolution, stored_body
from anb_core.domain.message import UnreadableMessage, decode
from anb_core.domain.model import DeadLetterCause, Ending
from anb_core.domain.s3_notifications import CreatedObject, created_objects
from anb_core.domain.status import Status
from anb_core.testing.promises.facts import Facts, Rule

SHOWN_WITHIN = timedelta(seconds=2)
"""Time within which a VideoJob shows a change."""


def _every_waiting_job_has_a_message(facts: Facts) -> Iterator[str]:
    waiting = [case for case in facts.cases.values() if case.waits and not case.entries]
    count, messages = facts.evidence.message_count, facts.evidence.messages
    if messages is not None:
        named = set[tuple[str, int | None]]()
        for body in messages if waiting else ():
            try:
                message = decode(body)
            except UnreadableMessage:
                continue
            named.add((message.video_id, message.generation))
        for case in waiting:
            if named.isdisjoint({(case.job.video_id, case.job.generation), (case.job.video_id, None)}):
                yield f"{case.name} waits without an outbox entry, and no queue has a message for it."
    elif count is not None and len(waiting) > count:
        ids = ", ".join(case.job.video_id for case in waiting)
        yield f"{len(waiting)} videos wait without an outbox entry ({ids}), but the queues have {count} messages."


def _every_message_left_a_trace(facts: Facts) -> Iterator[str]:
    if facts.evidence.messages is None:
        return
    recorded = {_plain(letter.body) for letter in facts.evidence.dead_letters if letter.body is not None}
    for body in set(facts.evidence.sent) - set(facts.evidence.messages):
        stored = _plain(stored_body(body))
        if not recorded & {stored, stored[:SHORT_BODY]}:
            yield from (f"The message {body!r} was deleted, but {why}." for why in _lost(body, facts))


def _lost(body: str, facts: Facts) -> Iterator[str]:
    """Yield a reason for each part of a message that was lost. The message was deleted, and is not a dead letter.

    A message is lost if it names a video that does not exist, or if it is unreadable.
    """
    named = _named(body)
    if isinstance(named, str):
        yield named
        return
    for video_id in named:
        if video_id not in facts.cases and video_id not in facts.events:
            yield f"there is no video {video_id}"


@lru_cache(maxsize=10_000)
def _named(body: str) -> Sequence[str] | str:
    """Return the ids of the videos that a message names. A reason if it is unreadable. Each body is read often."""
    try:
        created = created_objects(body)
        if created is None:
            return [decode(body).video_id]
        return [one.video_id for one in created if not _is_ignored(one)]
    except UnreadableMessage as error:
        return f"it is not recorded as a dead letter, and {error}"


def _is_ignored(created: CreatedObject) -> bool:
    return created.empty or created.key.endswith("/") or created.key.startswith(OURS)


def _plain(text: str) -> str:
    """Return the text that a database stores for `text`. Databases can't store NUL characters."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _only_waiting_jobs_have_one_outbox_entry(facts: Facts) -> Iterator[str]:
    for case in facts.cases.values():
        if case.entries > 1:
            yield f"{case.name} has {case.entries} outbox entries."
        if case.entries and (case.deleted or not case.waits):
            over = "was deleted" if case.deleted else f"has the lease owner {case.job.lease_owner}"
            yield f"{case.name} {over}, but it also has an outbox entry."


def _failures_are_counted_once(facts: Facts) -> Iterator[str]:
    for case in facts.cases.values():
        failed, attempts = len(case.ended(Ending.FAILED)), len(case.attempts)
        if case.job.counters.failures != failed:
            yield f"{case.name} counts {case.job.counters.failures} failures, but {failed} of its attempts failed."
        if case.job.attempts != attempts:
            yield f"{case.name} counts {case.job.attempts} attempts, but has {attempts}."


def _events_follow_the_changes(facts: Facts) -> Iterator[str]:
    versions: dict[str, int] = {}
    for event in sorted(facts.evidence.events, key=lambda one: one.id):
        before = versions.get(event.job_id, 0)
        if event.version <= before:
            yield f"Event {event.id} of video {event.video_id} has version {event.version}, after version {before}."
        versions[event.job_id] = event.version


def _bad_input_fails_once(facts: Facts) -> Iterator[str]:
    for case in facts.cases.values():
        job, rejected = case.job, case.ended(Ending.REJECTED)
        if len(rejected) != (job.status is Status.FAILED):
            yield f"{case.name} has {len(rejected)} rejected attempts."
        if job.status is Status.FAILED and (job.error is None or job.error.code not in VIDEOS or not job.error.message):
            yield f"{case.name} failed without a code for bad input and a sentence: {job.error}."
        if rejected and case.verdicts:
            yield f"{case.name} was rejected, but it is also dead letter {case.verdicts[0].id}."


def _the_feed_tells_of_every_change(facts: Facts) -> Iterator[str]:
    for case in facts.cases.values():
        told = facts.events.get(case.job.video_id)
        if told and (told[-1].version > case.job.version or told[-1].status is not case.job.status):
            yield (
                f"The last event of {case.name} with version {case.job.version} has version {told[-1].version} "
                f"and the status {told[-1].status}."
            )
    events = facts.evidence.events
    for reader, cursor in (facts.evidence.cursors or {}).items():
        if events and cursor > events[-1].id:
            yield f"The reader {reader} of the feed is at event {cursor}, but the last event is {events[-1].id}."


def _videojobs_show_every_change(facts: Facts) -> Iterator[str]:
    if facts.evidence.videojobs is None:
        return
    for case in facts.cases.values():
        job, shown = case.job, facts.evidence.videojobs.get(case.job.video_id)
        if facts.evidence.now - job.updated_at <= SHOWN_WITHIN:
            continue
        if shown is None:
            # A job that has ended may have no VideoJob, because the operator deletes its VideoJob after some time.
            if not job.status.terminal:
                yield f"{case.name} has no VideoJob."
        elif (shown.phase, shown.attempts) != ((None, None) if case.deleted else (job.status, job.attempts)):
            yield (
                f"{case.name}, deleted: {case.deleted}, has {job.attempts} attempts, "
                f"but its VideoJob shows {shown.phase} and {shown.attempts}."
            )


def _interruptions_and_losses_count_apart(facts: Facts) -> Iterator[str]:
    for case in facts.cases.values():
        counters, ended = case.job.counters, {one.ended_at for one in case.ended(Ending.LOST)}
        interrupted = len(case.ended(Ending.INTERRUPTED))
        if counters.interruptions != interrupted:
            yield (
                f"{case.name} counts {counters.interruptions} interruptions, "
                f"but {interrupted} of its attempts were interrupted."
            )
        # A message that SQS moved counts as a loss. A message and an attempt that end at the same time are one loss.
        moved = [
            one
            for one in case.letters
            if one.message_id and one.generation == case.job.generation and one.resolution is not Resolution.STALE
        ]
        lost = len(case.ended(Ending.LOST)) + sum(one.created_at not in ended for one in moved)
        if counters.lost != lost and not facts.forgets(case):
            yield f"{case.name} counts {counters.lost} losses, but {lost} of its attempts and messages were lost."


def _dead_letters_are_at_a_limit(facts: Facts) -> Iterator[str]:
    for case in facts.cases.values():
        job, dead = case.job, case.job.status is Status.DEAD_LETTERED
        causes = {
            DeadLetterCause.FAILURES: job.counters.failures >= facts.policy.max_failures,
            DeadLetterCause.WORKER_LOST: job.counters.lost >= facts.policy.max_lost,
        }
        if dead is not any(causes.values()):
            yield f"{case.name} has the counters {job.counters}, and the limits are {facts.policy}."
        if len(case.verdicts) != dead and not facts.forgets(case):
            yield f"{case.name} has {len(case.verdicts)} dead letters of this generation."
        yield from (
            f"Dead letter {one.id} of {case.name} has the cause {one.cause}, but the counters are {job.counters}."
            for one in case.verdicts
            if not causes.get(one.cause)
        )
        yield from (
            f"Dead letter {one.id} of generation {one.generation} is open, but {case.name} was retried or deleted."
            for one in case.letters
            if one.open and (case.deleted or (one.generation or 0) < job.generation)
        )


RULES: Sequence[tuple[str, Rule]] = (
    ("L3", _every_waiting_job_has_a_message),
    ("L3", _every_message_left_a_trace),
    ("L4", _only_waiting_jobs_have_one_outbox_entry),
    ("L4", _failures_are_counted_once),
    ("L4", _events_follow_the_changes),
    ("L5", _bad_input_fails_once),
    ("L6", _the_feed_tells_of_every_change),
    ("L6", _videojobs_show_every_change),
    ("L7", _interruptions_and_losses_count_apart),
    ("L7", _dead_letters_are_at_a_limit),
)
