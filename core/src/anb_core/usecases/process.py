"""Process: what a worker does with one delivery, from the claim to the deletion of the message.

Every outcome but a crash is one transaction, then the deletion. Where none is possible, the message is given back.
"""

import errno
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from anb_core.domain.errors import (
    AnbError,
    BadInput,
    Busy,
    Full,
    Interrupted,
    LeaseLost,
    NotFound,
    Refused,
    Transient,
    Unavailable,
    Unreadable,
    Withheld,
)
from anb_core.domain.keys import UPLOADS
from anb_core.domain.message import Message, UnreadableMessage, decode
from anb_core.domain.model import Counters, DeadLetterCause, Ending, Lease, Problem, Result, Video
from anb_core.domain.retry import (
    RetryPolicy,
    Settlement,
    plan_failure,
    plan_interruption,
    plan_outage,
    plan_rejection,
    plan_return,
)
from anb_core.ports.keeper import Keep, Keeper
from anb_core.ports.objects import Objects
from anb_core.ports.queue import Delivery, Queue
from anb_core.ports.renderer import Rendered, Renderer, Resources
from anb_core.ports.scratch import Scratch
from anb_core.ports.stop import Stop
from anb_core.ports.store import Claimed, DeadLetters, Dropped, Leases, Reading, Unknown
from anb_core.usecases.relay import Relay

PIECE = 1024 * 1024
"""How much of the result is read and sent at a time, in bytes."""

PAUSE = timedelta(seconds=1)
"""Between two tries of something that is away."""

PATIENCE = timedelta(seconds=60)
"""How long a bucket may be away in mid-attempt before the work done so far is given up."""

DOWNLOADED = 0.1
RENDERED = 0.9
"""Where downloading and rendering end on the progress people see; uploading is the rest."""

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")


class Outcome(StrEnum):
    """What became of a delivery."""

    PROCESSED = "processed"
    REJECTED = "rejected"
    """Bad input: failed once and for good."""
    FAILED = "failed"
    """The try failed, another one is due."""
    DEAD_LETTERED = "dead_lettered"
    """The try failed and was the last one."""
    HANDED_ON = "handed_on"
    """This worker, or a part it needs, went away: another goes on."""
    SUPERSEDED = "superseded"
    """A person or another attempt took the job over."""
    DROPPED = "dropped"
    """The message had nothing to wake."""
    RECORDED = "recorded"
    """The message belongs to no job; people see it among the dead letters."""
    ADOPTED = "adopted"
    """An older producer's video was submitted; a message of ours follows."""
    GIVEN_BACK = "given_back"
    """Nothing could be committed, so the message comes again: at once the first time, then after a growing pause."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was done with a delivery. `steps` tells how many seconds each step took, in order."""

    outcome: Outcome
    message_id: str
    video_id: str | None = None
    attempt_id: str | None = None
    fence: int | None = None
    counters: Counters | None = None
    problem: Problem | None = None
    unavailable: Unavailable | None = None
    """Why nothing could be committed."""
    detail: str | None = None
    steps: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long all of it took."""
        return sum(self.steps.values())


_OUTAGES = {
    "database": "The database did not answer for a while.",
    "bucket": "The bucket did not answer for a while.",
    "scratch": "The worker's disk had no room for the video and what is made of it.",
}
_OUTAGE = "A part that is needed was away for a while."
_FULL = "There is no room left to keep the result."
_WITHHELD = "The bucket does not give us a file that is needed for this video."
"""What the owner of a video reads; which host it was and what it said is for who runs the system."""

_MOST_DETAIL = 2000


def plan_ending(error: Exception, counters: Counters, policy: RetryPolicy, jitter: float) -> Settlement:
    """What follows from the way an attempt ended; any error that isn't ours is a failure of the try."""
    match error:
        case BadInput(code=code, message=message):
            return plan_rejection(counters, Problem(code, message))
        case Interrupted():
            return plan_interruption(counters)
    if (outage := _outage(error)) is not None:
        return plan_outage(counters, outage, policy, jitter)
    if isinstance(error, AnbError):
        return plan_failure(counters, Problem(error.code, error.message), policy, jitter)
    told = f"The worker failed in a way nobody foresaw ({type(error).__name__})."
    return plan_failure(counters, Problem("internal_error", told, _detail(error)), policy, jitter)


def _outage(error: Exception) -> Problem | None:
    """What is told of a part that is away, or None if it is something else."""
    match error:
        case Full(code=code):
            return Problem(code, _FULL, _detail(error))
        case Unavailable(code=code, part=part):
            return Problem(code, _OUTAGES.get(part, _OUTAGE), _detail(error))
        case Withheld(code=code):
            return Problem(code, _WITHHELD, _detail(error, error.__cause__))
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return Problem("scratch_unavailable", _OUTAGES["scratch"], _detail(error))
    return None


def _detail(*errors: BaseException | None) -> str:
    return "; ".join(f"{type(error).__name__}: {error}" for error in errors if error is not None)[:_MOST_DETAIL]


class Steps:
    """Names the steps as they begin, and measures them."""

    def __init__(self, on_step: Callable[[str], None], monotonic: Callable[[], float]) -> None:
        self._on_step = on_step
        self._monotonic = monotonic
        self._began: list[tuple[str, float]] = []

    def __call__(self, name: str) -> None:
        """The step `name` begins, and the one before it is over."""
        self._began.append((name, self._monotonic()))
        self._on_step(name)

    def seconds(self) -> dict[str, float]:
        """How long each step took, the last one until now."""
        ends = [began for _, began in self._began[1:]] + [self._monotonic()]
        taken: dict[str, float] = {}
        for (name, began), end in zip(self._began, ends, strict=True):
            taken[name] = taken.get(name, 0.0) + end - began
        return taken


class ProcessStore(Leases, Reading, DeadLetters, Protocol):
    """What processing needs of the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Handles deliveries, one at a time.

    `load_resources` brings the operator's own parts. `adopt` submits the object at a key under a video id, None where
    nothing is adopted. `on_step` is for chaos tests.
    """

    store: ProcessStore
    objects: Objects
    queue: Queue
    renderer: Renderer
    relay: Relay
    keep: Keep
    scratch: Scratch
    load_resources: Callable[[], Resources]
    worker: str
    lease: timedelta
    policy: RetryPolicy
    adopt: Callable[[str, str], object] | None = None
    on_step: Callable[[str], None] = lambda _: None
    jitter: Callable[[], float] = random.random
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def handle(self, delivery: Delivery, stop: Stop) -> Report:
        """Do what the delivery asks for, until it is settled or `stop` is asked."""
        steps = Steps(self.on_step, self.monotonic)
        try:
            report = self._handle(delivery, stop, steps)
        except Unavailable as error:
            self._give_back(delivery)
            report = Report(Outcome.GIVEN_BACK, delivery.message_id, unavailable=error)
        except Unreadable as error:
            # Only of this one: a newer worker may know better.
            self._give_back(delivery)
            report = Report(Outcome.GIVEN_BACK, delivery.message_id, detail=error.message)
        return replace(report, steps=steps.seconds())

    def _handle(self, delivery: Delivery, stop: Stop, steps: Steps) -> Report:
        steps("claim")
        try:
            message = decode(delivery.body)
        except UnreadableMessage as error:
            return self._record(delivery, DeadLetterCause.UNREADABLE, str(error), steps)
        claim, since = self._claim(message, stop)
        match claim:
            case Claimed():
                return self._attempt(claim, delivery, stop, since, steps)
            case Dropped(reason=reason):
                self._delete(delivery, steps)
                return Report(Outcome.DROPPED, delivery.message_id, video_id=message.video_id, detail=reason.value)
            case Unknown():
                return self._unknown(message, delivery, steps)

    def _claim(self, message: Message, stop: Stop) -> tuple[Claimed | Dropped | Unknown, float]:
        """The answer, and the monotonic time before it was asked for. A row that somebody holds is waited for a little.

        That costs the message no receive. It is over before the message is visible again, which is after the lease.

        Raises:
            Unavailable: nothing could be committed.
        """
        until = self.monotonic() + self.lease.total_seconds() / 3
        while True:
            since = self.monotonic()
            try:
                return self.store.claim(
                    message.video_id,
                    generation=message.generation,
                    worker=self.worker,
                    lease=self.lease,
                    policy=self.policy,
                ), since
            except Busy as error:
                if self.monotonic() >= until or stop.asked:
                    raise
                _log.warning("claiming is tried again", video_id=message.video_id, reason=error.message)
            self.sleep(PAUSE.total_seconds())

    def _unknown(self, message: Message, delivery: Delivery, steps: Steps) -> Report:
        detail = f"there is no video {message.video_id}"
        key = self._adoptable(message)
        if key is not None and self.adopt is not None:
            try:
                self.adopt(key, message.video_id)
            except Withheld as error:
                # Perhaps only for a while: nobody else has this job, so the message must stay.
                raise Unavailable("bucket", error.message) from error
            except Refused as refusal:
                detail = f"{detail}, and it can't be adopted: {refusal.message}"
            else:
                self._delete(delivery, steps)
                return Report(Outcome.ADOPTED, delivery.message_id, video_id=message.video_id)
        return self._record(delivery, DeadLetterCause.UNKNOWN_JOB, detail, steps)

    def _adoptable(self, message: Message) -> str | None:
        """Only an older producer names a job that we may not know, and only with an object of ours."""
        ours = message.bucket in {None, self.objects.bucket}
        if message.generation is None and ours and message.key is not None and message.key.startswith(UPLOADS):
            return message.key
        return None

    def _record(self, delivery: Delivery, cause: DeadLetterCause, detail: str, steps: Steps) -> Report:
        self.store.record_dead_letter(cause=cause, message_id=delivery.message_id, body=delivery.body, detail=detail)
        self._delete(delivery, steps)
        return Report(Outcome.RECORDED, delivery.message_id, detail=f"{cause}: {detail}")

    def _attempt(self, claimed: Claimed, delivery: Delivery, stop: Stop, since: float, steps: Steps) -> Report:
        lease = claimed.lease
        keeper = self.keep(lease, delivery, stop, since)
        settlement: Settlement | None = None
        try:
            try:
                with keeper:
                    result = self._make(claimed, stop, keeper, steps)
                    steps("publish")
                    outcome = self._publish(lease, result, stop)
            except LeaseLost:
                outcome = self._winner(lease)
            except Exception as error:  # noqa: BLE001 - whatever it was, the job must go on
                steps("settle")
                settlement = self._plan(lease, error)
                outcome = self._settle(lease, settlement, keeper.deadline)
            self._delete(delivery, steps)
        finally:
            steps("clean_up")
            self.scratch.clear(lease.attempt_id)
        return Report(
            outcome,
            delivery.message_id,
            video_id=lease.video_id,
            attempt_id=lease.attempt_id,
            fence=lease.fence,
            counters=settlement.counters if settlement else lease.counters,
            problem=settlement.error if settlement else None,
        )

    def _make(self, claimed: Claimed, stop: Stop, keeper: Keeper, steps: Steps) -> Result:
        video, lease = claimed.record.video, claimed.lease
        steps("download")
        source = self._patiently(lambda: self._download(video, lease, stop, keeper), stop)
        resources = self._patiently(self.load_resources, stop)
        stop.check()
        rendered = self.renderer.render(
            source,
            video.edit,
            video.title,
            source.parent,
            on_progress=lambda done: keeper.progress(DOWNLOADED + (RENDERED - DOWNLOADED) * done),
            on_step=steps,
            stop=stop,
            resources=resources,
        )
        steps("upload")
        return self._patiently(lambda: self._upload(rendered, lease, stop, keeper), stop)

    def _download(self, video: Video, lease: Lease, stop: Stop, keeper: Keeper) -> Path:
        missing = Transient("source_missing", f"The uploaded file {video.source_key} is not in the bucket.")
        stored = self.objects.head(video.source_key)
        if stored is None:
            raise missing
        source = self.scratch.make(lease.attempt_id, stored.size) / "source"
        received = 0

        def on_bytes(size: int) -> None:
            nonlocal received
            stop.check()
            received += size
            keeper.progress(DOWNLOADED * min(1.0, received / max(1, stored.size)))

        try:
            self.objects.fetch(video.source_key, source, on_bytes=on_bytes)
        except NotFound:
            raise missing from None
        return source

    def _upload(self, rendered: Rendered, lease: Lease, stop: Stop, keeper: Keeper) -> Result:
        sent = 0
        with (
            rendered.path.open("rb") as file,
            self.objects.writing(lease.result_key, content_type="video/mp4") as writer,
        ):
            while piece := file.read(PIECE):
                stop.check()
                writer.write(piece)
                sent += len(piece)
                keeper.progress(RENDERED + (1 - RENDERED) * sent / rendered.size)
            writer.commit()
        return Result(
            key=lease.result_key,
            size=rendered.size,
            sha256=rendered.sha256,
            width=rendered.width,
            height=rendered.height,
            duration=rendered.duration,
            frames=rendered.frames,
        )

    def _patiently(self, call: Callable[[], _T], stop: Stop) -> _T:
        """A bucket that is away for a moment is no reason to throw a minute's work away."""
        until = self.monotonic() + PATIENCE.total_seconds()
        while True:
            try:
                return call()
            except Unavailable as error:
                if error.part != "bucket" or self.monotonic() >= until:
                    raise
                _log.warning("the bucket is away, tried again", reason=error.message)
            self.sleep(PAUSE.total_seconds())
            stop.check()

    def _publish(self, lease: Lease, result: Result, stop: Stop) -> Outcome:
        """Try until it is decided; the keeper asks to stop when that takes longer than the lease."""
        while True:
            try:
                return Outcome.PROCESSED if self.store.publish(lease, result) else self._winner(lease)
            except Unavailable as error:
                _log.warning("publishing is tried again", video_id=lease.video_id, reason=error.message)
            self.sleep(PAUSE.total_seconds())
            stop.check()

    def _plan(self, lease: Lease, error: Exception) -> Settlement:
        if not isinstance(error, AnbError):
            _log.error("the attempt failed unexpectedly", video_id=lease.video_id, exc_info=error)
        return plan_ending(error, lease.counters, self.policy, self.jitter())

    def _settle(self, lease: Lease, settlement: Settlement, until: float) -> Outcome:
        """Try at least once, and again while nobody else can have taken the lease.

        Raises:
            Unavailable: the outcome could not be committed.
        """
        while True:
            try:
                settled = self.store.settle(lease, settlement)
            except Unavailable as error:
                if self.monotonic() >= until:
                    raise
                _log.warning("settling is tried again", video_id=lease.video_id, reason=error.message)
                self.sleep(PAUSE.total_seconds())
                continue
            if not settled:
                # The answer to an earlier commit of ours may have been lost, so the row is asked.
                return self._winner(lease)
            if settlement.delay is not None and not settlement.delay:
                self._send()
            return _outcome(settlement)

    def _winner(self, lease: Lease) -> Outcome:
        """A fenced write changed nothing: the job was taken over, or an earlier write of ours got no answer."""
        try:
            record = self.store.get(lease.video_id)
        except Unavailable:
            return Outcome.SUPERSEDED
        ours = record is not None and record.job.result is not None and record.job.result.key == lease.result_key
        return Outcome.PROCESSED if ours else Outcome.SUPERSEDED

    def _send(self) -> None:
        """The job goes on elsewhere at once; if this fails, any other relay sends it."""
        try:
            self.relay.send_due()
        except Unavailable as error:
            _log.warning("the message is left to another relay", reason=error.message)

    def _delete(self, delivery: Delivery, steps: Steps) -> None:
        """A message that stays only comes again, and is dropped then."""
        steps("delete")
        try:
            self.queue.delete(delivery)
        except Unavailable as error:
            _log.warning("the message was not deleted", message_id=delivery.message_id, reason=error.message)

    def _give_back(self, delivery: Delivery) -> None:
        try:
            self.queue.give_back(delivery, pause=plan_return(delivery.age))
        except Unavailable as error:
            _log.warning("the message was not given back", message_id=delivery.message_id, reason=error.message)


def _outcome(settlement: Settlement) -> Outcome:
    match settlement:
        case Settlement(ending=Ending.REJECTED):
            return Outcome.REJECTED
        case Settlement(ending=Ending.INTERRUPTED):
            return Outcome.HANDED_ON
        case Settlement(delay=None):
            return Outcome.DEAD_LETTERED
    return Outcome.FAILED
