"""What is done for a video and its VideoJobs, decided from values: first what is owed to the spec, then the mirror."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from anb_core.domain.model import Attempt, Problem, Record
from anb_core.domain.status import Status as Phase
from anb_operator.mirror import Announcement, announcements, observed_of, refused_status, status_of
from anb_operator.naming import mirror_name
from anb_operator.videojob import FINALIZER, MADE_BY_OPERATOR, Status, VideoJob

GIVE_UP = timedelta(minutes=2)
"""A VideoJob that is being deleted waits so long for work that can't be cancelled; then it goes, and the work on."""

ASK_AGAIN = timedelta(seconds=30)
"""Between the first two looks for an object that is submitted but not there yet."""

ASK_AGAIN_AT_MOST = timedelta(minutes=10)
"""Between two looks for one that has been missing for long, apart from those at everything."""

MAY_COME = {"source_missing", "object_withheld"}
"""Why an object was not submitted that may be another time."""

CANCELLED_BEFORE = Problem("cancelled", "It was not submitted, because spec.cancel is true; false submits it.")
VIDEO_DELETED = Problem("video_deleted", "The video was deleted. Delete this VideoJob too, or submit another one.")


@dataclass(frozen=True, slots=True)
class Policy:
    """What is mirrored, where to, and for how long that is kept after the end."""

    namespace: str
    instance: str
    mirror: bool
    mirror_max_age: timedelta | None
    ttl_processed: timedelta
    ttl_failed: timedelta

    @property
    def labels(self) -> dict[str, str]:
        """Of the mirrors of this release."""
        return {**MADE_BY_OPERATOR, "app.kubernetes.io/instance": self.instance}

    def time_to_live(self, phase: Phase) -> timedelta:
        """For how long a mirror is kept after the end of its video's work."""
        return self.ttl_processed if phase is Phase.PROCESSED else self.ttl_failed


class Command(StrEnum):
    """What the spec of a VideoJob asks of the system."""

    SUBMIT = "submit"
    CANCEL = "cancel"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a command was not done."""

    command: Command
    problem: Problem


@dataclass(frozen=True, slots=True)
class CreateMirror:
    """Make the VideoJob of a video."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    video_id: str


@dataclass(frozen=True, slots=True)
class WriteStatus:
    """Replace the status."""

    videojob: VideoJob
    status: Status


@dataclass(frozen=True, slots=True)
class SetFinalizer:
    """Put our finalizer on, or take it off."""

    videojob: VideoJob
    wanted: bool


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the object, if it is still the same."""

    videojob: VideoJob


@dataclass(frozen=True, slots=True)
class Announce:
    """Post a Kubernetes Event about the object."""

    videojob: VideoJob
    announcement: Announcement


Action = CreateMirror | WriteStatus | SetFinalizer | Delete | Announce


@dataclass(slots=True)
class Plan:
    """What to do now, in this order, and when to look again at the latest (None: when something happens).

    `expired_until`: a VideoJob goes earlier than others would, and until then no mirror may take its place.
    """

    actions: list[Action] = field(default_factory=list)
    again_at: datetime | None = None
    expired_until: datetime | None = None

    def look_again(self, at: datetime) -> None:
        """At this time, or earlier."""
        self.again_at = min(self.again_at or at, at)


def command_of(videojob: VideoJob, record: Record | None) -> Command | None:
    """What is owed to a VideoJob. A cancel or retry is acted on once, so that the API may do otherwise later."""
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
    """What comes before any work: a deletion must find our finalizer whenever it comes, else nobody cancels."""
    made = Plan()
    for videojob in videojobs:
        if _may_begin(videojob):
            made.actions += _finalizer(videojob, wanted=True)
    return made


def plan(
    video_id: str,
    videojobs: Collection[VideoJob],
    record: Record | None,
    attempts: Sequence[Attempt],
    *,
    policy: Policy,
    now: datetime,
    news: bool,
    expired: bool,
    refusals: Mapping[str, Refusal],
) -> Plan:
    """All that makes the VideoJobs of a video say what its row says.

    `news`: the feed has told of the video. So it is, or was, one of ours: without that, what stands for a video that we
    don't have may be another operator's. And one that is finished is worth a mirror too, unless one has had its time
    (`expired`). Otherwise only unfinished ones are, else a mirror that somebody deleted would come back. `refusals` by
    the object's UID.
    """
    made = Plan()
    submitter = any(videojob.spec.source for videojob in videojobs)
    for videojob in videojobs:
        refusal = refusals.get(videojob.metadata.uid)
        if refusal and refusal.command is not Command.SUBMIT:
            made.actions.append(Announce(videojob, _refused(videojob, refusal)))
        if record is None and not news and _anothers(videojob, policy):
            _plan_anothers(made, videojob, now)
        elif videojob.deleting:
            made.actions += _finalizer(videojob, wanted=False)
        elif videojob.spec.source is None and submitter:
            # The one that submitted the video takes the place of its mirror.
            made.actions.append(Delete(videojob))
        elif record is None:
            _plan_without_video(made, videojob, refusal, policy=policy, now=now)
        else:
            _plan_mirror(made, videojob, record, attempts, policy=policy, now=now)
    if not videojobs and record and _deserves_mirror(record, policy, now, news=news and not expired):
        made.actions.append(CreateMirror(policy.namespace, mirror_name(video_id), policy.labels, video_id))
    return made


def plan_after_failure(video_id: str, videojobs: Collection[VideoJob], now: datetime) -> Plan:
    """What must go on while nobody knows how the video stands: no deletion may hang for long."""
    made = Plan()
    for videojob in videojobs:
        deleted_at = videojob.metadata.deletion_timestamp
        ours = FINALIZER in videojob.metadata.finalizers
        if deleted_at is None or not ours or now - deleted_at < GIVE_UP:
            continue
        made.actions.append(
            Announce(
                videojob,
                Announcement(
                    "not-cancelled",
                    "NotCancelled",
                    f"For {GIVE_UP.total_seconds():.0f} s the operator could not see to video {video_id}, so its work "
                    "was not cancelled; the operator's log says why. Cancel it by the API if that is still wanted.",
                    warning=True,
                ),
            )
        )
        made.actions += _finalizer(videojob, wanted=False)
    return made


def time_to_live(videojob: VideoJob, phase: Phase, policy: Policy) -> timedelta | None:
    """For how long a VideoJob is kept after the end of its work; None: until somebody deletes it."""
    if videojob.ttl is not None:
        return videojob.ttl
    # Whoever applies a manifest again would submit its object again, had the first VideoJob gone unasked.
    return None if videojob.spec.source else policy.time_to_live(phase)


def ask_again_in(missing: timedelta) -> timedelta:
    """When to look again for an object that has been missing for so long: it doubles that time."""
    return min(max(missing, ASK_AGAIN), ASK_AGAIN_AT_MOST)


def _plan_mirror(
    made: Plan, videojob: VideoJob, record: Record, attempts: Sequence[Attempt], *, policy: Policy, now: datetime
) -> None:
    job = record.job
    status = status_of(record, attempts, videojob)
    made.actions += (
        Announce(videojob, announcement) for announcement in announcements(videojob.status, record, attempts, now)
    )
    made.actions += _finalizer(videojob, wanted=videojob.spec.source is not None and not job.status.terminal)
    if status != videojob.status:
        made.actions.append(WriteStatus(videojob, status))
    ttl = time_to_live(videojob, job.status, policy)
    # Not the row's own time: `now` is a whole second as this one is, and would be before the end until the next began.
    if (finished_at := status.finished_at) is not None and ttl is not None:
        end = finished_at + ttl
        if end <= now:
            made.actions.append(Delete(videojob))
            if videojob.ttl is not None:
                made.expired_until = finished_at + policy.time_to_live(job.status)
        else:
            made.look_again(end)


def _anothers(videojob: VideoJob, policy: Policy) -> bool:
    """Perhaps another operator sees to it: it says more than we ever knew, unless we made it."""
    if _ours(videojob, policy):
        return False
    return videojob.status.had_video or videojob.made_by_operator


def _ours(videojob: VideoJob, policy: Policy) -> bool:
    there = videojob.metadata
    return there.namespace == policy.namespace and there.labels.items() >= policy.labels.items()


def _plan_anothers(made: Plan, videojob: VideoJob, now: datetime) -> None:
    deleted_at = videojob.metadata.deletion_timestamp
    if deleted_at is None:
        return
    if now - deleted_at < GIVE_UP:
        made.look_again(deleted_at + GIVE_UP)
    else:
        made.actions += _finalizer(videojob, wanted=False)


def _plan_without_video(
    made: Plan, videojob: VideoJob, refusal: Refusal | None, *, policy: Policy, now: datetime
) -> None:
    before = videojob.status
    if videojob.spec.source is None and (before.video_id is not None or _ours(videojob, policy)):
        # A mirror of nothing.
        made.actions.append(Delete(videojob))
        return
    if refusal:
        problem = refusal.problem
    elif videojob.spec.source is None:
        problem = Problem("video_not_found", f"There is no video {videojob.spec.video_id}.")
    elif before.video_id is not None:
        problem = VIDEO_DELETED
    else:
        problem = CANCELLED_BEFORE
    made.actions += _finalizer(videojob, wanted=_may_begin(videojob))
    status = refused_status(problem, videojob, now)
    if problem.code in MAY_COME and (accepted := status.condition("Accepted")):
        made.look_again(now + ask_again_in(now - accepted.last_transition_time))
    if status != before:
        made.actions.append(WriteStatus(videojob, status))


def _may_begin(videojob: VideoJob) -> bool:
    """Its work is submitted or tried again next, unless that is refused."""
    spec, status = videojob.spec, videojob.status
    if spec.source is None or spec.cancel or videojob.deleting:
        return False
    return status.video_id is None or spec.retry not in (None, status.retry)


def finalizers_of(videojob: VideoJob, *, wanted: bool) -> tuple[str, ...]:
    """With ours or without; those of others stay."""
    others = tuple(finalizer for finalizer in videojob.metadata.finalizers if finalizer != FINALIZER)
    return (*others, FINALIZER) if wanted else others


def _finalizer(videojob: VideoJob, *, wanted: bool) -> list[Action]:
    there = FINALIZER in videojob.metadata.finalizers
    return [] if there == wanted else [SetFinalizer(videojob, wanted)]


def _deserves_mirror(record: Record, policy: Policy, now: datetime, *, news: bool) -> bool:
    if not policy.mirror:
        return False
    if policy.mirror_max_age is not None and now - record.video.created_at > policy.mirror_max_age:
        return False
    job = record.job
    if not job.status.terminal:
        return True
    # Whoever cancels a video, or deletes the VideoJob that submitted it, does not want another one.
    wanted = news and job.status is not Phase.CANCELLED
    return wanted and now < job.updated_at + policy.time_to_live(job.status)


def _refused(videojob: VideoJob, refusal: Refusal) -> Announcement:
    return Announcement(
        f"{videojob.metadata.generation}/{refusal.command}",
        f"{refusal.command.capitalize()}Refused",
        refusal.problem.message,
        warning=True,
    )
