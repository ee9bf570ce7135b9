"""Pure functions that choose the commands to run for a video, and plan the changes of its VideoJobs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from anb_core.domain.dead_letters import DeadLetter
from anb_core.domain.model import Attempt, Problem, Record
from anb_core.domain.status import Status as Phase
from anb_operator.mirror import Announcement, announcements, observed_of, refused_status, status_of
from anb_operator.naming import mirror_name
from anb_operator.videojob import DEAD_LETTER, FINALIZER, MADE_BY_OPERATOR, Status, VideoJob

GIVE_UP = timedelta(minutes=2)
"""Maximum time that a VideoJob's deletion waits for the work to be cancelled. Then the finalizer is removed."""

ASK_AGAIN = timedelta(seconds=30)
"""Delay before the second try to submit an object that does not exist yet."""

ASK_AGAIN_AT_MOST = timedelta(minutes=10)
"""Maximum delay between two tries to submit an object that does not exist. A resync may try earlier."""

RETRYABLE_REFUSALS = {"source_missing", "object_withheld"}
"""Error codes of submissions that may succeed later although the spec stays the same."""

CANCELLED_BEFORE = Problem(
    "cancelled", "It was not submitted, because spec.cancel is true. Set spec.cancel to false to submit it."
)
VIDEO_DELETED = Problem("video_deleted", "The video was deleted. Delete this VideoJob too, or submit another one.")


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules for mirrors: which videos are mirrored, in which namespace, and how long a mirror is kept."""

    namespace: str
    """Namespace of the mirrors."""
    instance: str
    """The release's name, a label of its mirrors."""
    mirror: bool
    """Whether videos without a VideoJob get a mirror."""
    mirror_max_age: timedelta | None
    """Videos that are older than this get no new mirror, unless they have an open dead letter. None means no limit."""
    ttl_processed: timedelta
    """Time for which the mirror of a processed video is kept."""
    ttl_failed: timedelta
    """Time for which the mirror of a failed, dead-lettered or cancelled video is kept."""

    @property
    def labels(self) -> dict[str, str]:
        """Labels of this release's mirrors."""
        return {**MADE_BY_OPERATOR, "app.kubernetes.io/instance": self.instance}

    def time_to_live(self, phase: Phase) -> timedelta:
        """Return the time for which a mirror is kept after the work on the video has ended in `phase`."""
        return self.ttl_processed if phase is Phase.PROCESSED else self.ttl_failed


class Command(StrEnum):
    """A command in the spec of a VideoJob."""

    SUBMIT = "submit"
    CANCEL = "cancel"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command that was refused, and the reason."""

    command: Command
    problem: Problem


@dataclass(frozen=True, slots=True)
class CreateMirror:
    """Create a VideoJob that mirrors a video."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    video_id: str


@dataclass(frozen=True, slots=True)
class WriteStatus:
    """Replace the VideoJob's status."""

    videojob: VideoJob
    status: Status


@dataclass(frozen=True, slots=True)
class SetFinalizer:
    """Add the operator's finalizer if `wanted` is True, else remove the finalizer."""

    videojob: VideoJob
    wanted: bool


@dataclass(frozen=True, slots=True)
class SetDeadLetterLabel:
    """Add the label for an open dead letter if `wanted` is True, else remove the label."""

    videojob: VideoJob
    wanted: bool


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the VideoJob, unless another object now has the same name."""

    videojob: VideoJob


@dataclass(frozen=True, slots=True)
class Announce:
    """Post a Kubernetes Event about the VideoJob."""

    videojob: VideoJob
    announcement: Announcement


Action = CreateMirror | WriteStatus | SetFinalizer | SetDeadLetterLabel | Delete | Announce


@dataclass(slots=True)
class Plan:
    """The actions for one video, and the time of the next reconcile."""

    actions: list[Action] = field(default_factory=list)
    """The actions, in the order of their execution."""
    again_at: datetime | None = None
    """Latest time of the next reconcile. None means that only a change starts the next reconcile."""
    expired_until: datetime | None = None
    """Time before which the video gets no mirror. None unless the plan deletes a VideoJob whose own TTL has passed."""

    def look_again(self, at: datetime) -> None:
        """Reconcile again at the time `at`. If the plan already has an earlier time, keep the earlier time."""
        self.again_at = min(self.again_at or at, at)


def command_of(videojob: VideoJob, record: Record | None) -> Command | None:
    """Return the command of a VideoJob's spec that must still be carried out, or None.

    Each cancel or retry is carried out only once. A second cancel could undo a later retry through the API.
    """
    spec, status = videojob.spec, videojob.status
    if videojob.deleting:
        held = FINALIZER in videojob.metadata.finalizers
        return Command.CANCEL if held and record and not record.job.status.terminal else None
    if record is None:
        return Command.SUBMIT if _may_begin(videojob) and status.video_id is None else None
    observed = observed_of(videojob, record.job)
    if observed.generation == videojob.metadata.generation:
        return None
    if spec.cancel:
        return None if record.job.status.terminal or observed.cancel else Command.CANCEL
    asked = spec.retry is not None and spec.retry != observed.retry
    return Command.RETRY if asked and record.job.status.terminal else None


def plan_holds(videojobs: Collection[VideoJob]) -> Plan:
    """Plan to add finalizers before the work on a video begins. With a finalizer, a deletion cancels the work."""
    new_plan = Plan()
    for videojob in videojobs:
        if _may_begin(videojob):
            new_plan.actions += _finalizer(videojob, wanted=True)
    return new_plan


def plan(
    video_id: str,
    videojobs: Collection[VideoJob],
    record: Record | None,
    attempts: Sequence[Attempt],
    letter: DeadLetter | None,
    *,
    policy: Policy,
    now: datetime,
    news: bool,
    expired: bool,
    refusals: Mapping[str, Refusal],
) -> Plan:
    """Plan the actions that bring the VideoJobs of a video in line with the video's row.

    `letter` is the dead letter that ended the job, or None. If it is open, the VideoJobs of the video are kept.
    `news` is True after a feed event for the video, which proves that the video exists or existed in this database.
    Without `news`, the VideoJob of an unknown video is not changed. It may belong to the operator of another release.
    Without `news`, a finished video gets no mirror, because the video's mirror may already have been deleted.
    `expired` is True if a VideoJob of the video was deleted because the TTL in the VideoJob's spec had passed.
    If `expired` is True, a finished video gets no mirror.
    `refusals` has the refused commands, by the UID of the VideoJob.
    """
    new_plan = Plan()
    submitter = any(videojob.spec.source for videojob in videojobs)
    for videojob in videojobs:
        refusal = refusals.get(videojob.metadata.uid)
        if refusal and refusal.command is not Command.SUBMIT:
            new_plan.actions.append(Announce(videojob, _refused(videojob, refusal)))
        if record is None and not news and _may_be_foreign(videojob, policy):
            _plan_foreign(new_plan, videojob, now)
        elif videojob.deleting:
            new_plan.actions += _finalizer(videojob, wanted=False)
        elif videojob.spec.source is None and submitter:
            # The VideoJob that submitted the video shows the video's state, so the video needs no mirror.
            new_plan.actions.append(Delete(videojob))
        elif record is None:
            _plan_without_video(new_plan, videojob, refusal, policy=policy, now=now)
        else:
            _plan_mirror(new_plan, videojob, record, attempts, letter, policy=policy, now=now)
    if not videojobs and record and _deserves_mirror(record, letter, policy, now, news=news and not expired):
        labels = policy.labels | ({DEAD_LETTER: "true"} if letter and letter.open else {})
        new_plan.actions.append(CreateMirror(policy.namespace, mirror_name(video_id), labels, video_id))
    return new_plan


def plan_after_failure(video_id: str, videojobs: Collection[VideoJob], now: datetime) -> Plan:
    """Plan for a failed reconcile: if a VideoJob's deletion has waited for `GIVE_UP`, remove the finalizer.

    Kubernetes then deletes the VideoJob, even if the work on the video could not be cancelled.
    """
    new_plan = Plan()
    for videojob in videojobs:
        deleted_at = videojob.metadata.deletion_timestamp
        held = FINALIZER in videojob.metadata.finalizers
        if deleted_at is None or not held or now - deleted_at < GIVE_UP:
            continue
        new_plan.actions.append(
            Announce(
                videojob,
                Announcement(
                    "not-cancelled",
                    "NotCancelled",
                    f"The operator could not reconcile video {video_id} for {GIVE_UP.total_seconds():.0f} s, so its "
                    "work was not cancelled. The operator's log says why. To cancel it, use the API.",
                    warning=True,
                ),
            )
        )
        new_plan.actions += _finalizer(videojob, wanted=False)
    return new_plan


def time_to_live(videojob: VideoJob, phase: Phase, policy: Policy) -> timedelta | None:
    """Return the time between the end of the work and the deletion of a VideoJob, or None if the VideoJob is kept."""
    if videojob.ttl is not None:
        return videojob.ttl
    # A VideoJob with a source is kept. After a deletion, applying the manifest again would submit the object again.
    return None if videojob.spec.source else policy.time_to_live(phase)


def ask_again_in(missing: timedelta) -> timedelta:
    """Return the delay before the next try to submit an object that does not exist.

    `missing` is the time since the first try.
    The delay is equal to `missing`, but at least `ASK_AGAIN` and at most `ASK_AGAIN_AT_MOST`.
    So the time since the first try doubles from try to try, until the maximum delay is reached.
    """
    return min(max(missing, ASK_AGAIN), ASK_AGAIN_AT_MOST)


def _plan_mirror(
    new_plan: Plan,
    videojob: VideoJob,
    record: Record,
    attempts: Sequence[Attempt],
    letter: DeadLetter | None,
    *,
    policy: Policy,
    now: datetime,
) -> None:
    job = record.job
    status = status_of(record, attempts, letter, videojob)
    news = announcements(videojob.status, record, attempts, letter, now)
    new_plan.actions += (Announce(videojob, announcement) for announcement in news)
    new_plan.actions += _finalizer(videojob, wanted=videojob.spec.source is not None and not job.status.terminal)
    new_plan.actions += _label(videojob, wanted=letter is not None and letter.open)
    if status != videojob.status:
        new_plan.actions.append(WriteStatus(videojob, status))
    ttl = time_to_live(videojob, job.status, policy)
    # The TTL begins at the time in the VideoJob's status, which has whole seconds like `now`.
    # The time in the job's row has a fraction of a second, which would delay the deletion by a second.
    if (handled_at := _handled_at(status)) is not None and ttl is not None:
        end = handled_at + ttl
        if end <= now:
            new_plan.actions.append(Delete(videojob))
            if videojob.ttl is not None:
                new_plan.expired_until = handled_at + policy.time_to_live(job.status)
        else:
            new_plan.look_again(end)


def _handled_at(status: Status) -> datetime | None:
    """Return the time from which a VideoJob is no longer needed. None while work or an open dead letter is left."""
    return status.dead_letter.resolved_at if status.dead_letter else status.finished_at


def _may_be_foreign(videojob: VideoJob, policy: Policy) -> bool:
    """Whether a VideoJob without a video in this database may belong to the operator of another release."""
    if _is_own_mirror(videojob, policy):
        return False
    return videojob.status.had_video or videojob.made_by_operator


def _is_own_mirror(videojob: VideoJob, policy: Policy) -> bool:
    metadata = videojob.metadata
    return metadata.namespace == policy.namespace and metadata.labels.items() >= policy.labels.items()


def _plan_foreign(new_plan: Plan, videojob: VideoJob, now: datetime) -> None:
    deleted_at = videojob.metadata.deletion_timestamp
    if deleted_at is None:
        return
    if now - deleted_at < GIVE_UP:
        new_plan.look_again(deleted_at + GIVE_UP)
    else:
        new_plan.actions += _finalizer(videojob, wanted=False)


def _plan_without_video(
    new_plan: Plan, videojob: VideoJob, refusal: Refusal | None, *, policy: Policy, now: datetime
) -> None:
    before = videojob.status
    if videojob.spec.source is None and (before.video_id is not None or _is_own_mirror(videojob, policy)):
        # The mirror's video was deleted.
        new_plan.actions.append(Delete(videojob))
        return
    if refusal:
        problem = refusal.problem
    elif videojob.spec.source is None:
        problem = Problem("video_not_found", f"There is no video {videojob.spec.video_id}.")
    elif before.video_id is not None:
        problem = VIDEO_DELETED
    else:
        problem = CANCELLED_BEFORE
    new_plan.actions += _finalizer(videojob, wanted=_may_begin(videojob))
    new_plan.actions += _label(videojob, wanted=False)
    status = refused_status(problem, videojob, now)
    if problem.code in RETRYABLE_REFUSALS and (accepted := status.condition("Accepted")):
        new_plan.look_again(now + ask_again_in(now - accepted.last_transition_time))
    if status != before:
        new_plan.actions.append(WriteStatus(videojob, status))


def _may_begin(videojob: VideoJob) -> bool:
    """Whether the next reconcile may submit the video or retry the work on the video."""
    spec, status = videojob.spec, videojob.status
    if spec.source is None or spec.cancel or videojob.deleting:
        return False
    return status.video_id is None or spec.retry not in (None, status.retry)


def finalizers_of(videojob: VideoJob, *, wanted: bool) -> tuple[str, ...]:
    """Return the VideoJob's finalizers, with the operator's own finalizer if `wanted` is True, else without it."""
    others = tuple(finalizer for finalizer in videojob.metadata.finalizers if finalizer != FINALIZER)
    return (*others, FINALIZER) if wanted else others


def _finalizer(videojob: VideoJob, *, wanted: bool) -> list[Action]:
    held = FINALIZER in videojob.metadata.finalizers
    return [] if held == wanted else [SetFinalizer(videojob, wanted)]


def _label(videojob: VideoJob, *, wanted: bool) -> list[Action]:
    labelled = videojob.metadata.labels.get(DEAD_LETTER)
    return [] if labelled == ("true" if wanted else None) else [SetDeadLetterLabel(videojob, wanted)]


def _deserves_mirror(record: Record, letter: DeadLetter | None, policy: Policy, now: datetime, *, news: bool) -> bool:
    if not policy.mirror:
        return False
    if letter and letter.open:
        return True
    if policy.mirror_max_age is not None and now - record.video.created_at > policy.mirror_max_age:
        return False
    job = record.job
    if not job.status.terminal:
        return True
    # A person who cancels a video, or deletes the VideoJob that submitted the video, does not want a new mirror.
    wanted = news and job.status is not Phase.CANCELLED
    return wanted and now < job.updated_at + policy.time_to_live(job.status)


def _refused(videojob: VideoJob, refusal: Refusal) -> Announcement:
    return Announcement(
        f"{videojob.metadata.generation}/{refusal.command}",
        f"{refusal.command.capitalize()}Refused",
        refusal.problem.message,
        warning=True,
    )
