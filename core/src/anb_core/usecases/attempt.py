"""One attempt at one job: download, render, upload, publish; or settle what ended it without a result."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from anb_core.domain.ending import plan_ending
from anb_core.domain.errors import AnbError, LeaseLost, NotFound, Transient, Unavailable
from anb_core.domain.model import Lease, Result, Video
from anb_core.domain.retry import RetryPolicy, Settlement
from anb_core.ports.keeper import Keep, Keeper
from anb_core.ports.objects import Objects
from anb_core.ports.queue import Delivery
from anb_core.ports.renderer import Rendered, Renderer, Resources
from anb_core.ports.runtime import Runtime
from anb_core.ports.scratch import Scratch
from anb_core.ports.stop import Stop
from anb_core.ports.store import Claimed, Leases, Reading
from anb_core.usecases.patience import patiently
from anb_core.usecases.relay import Relay
from anb_core.usecases.report import Outcome, Report, Steps

PIECE = 1024 * 1024
"""How much of the result is read and sent at a time, in bytes."""

PATIENCE = timedelta(seconds=60)
"""How long a bucket may be away in mid-attempt before the work done so far is given up."""

DOWNLOADED = 0.1
RENDERED = 0.9
"""Where downloading and rendering end on the progress people see; uploading is the rest."""

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")


class AttemptStore(Leases, Reading, Protocol):
    """What an attempt needs of the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What all attempts of a worker work with. `load_resources` brings the operator's own parts."""

    store: AttemptStore
    objects: Objects
    renderer: Renderer
    relay: Relay
    keep: Keep
    scratch: Scratch
    load_resources: Callable[[], Resources]
    policy: RetryPolicy
    runtime: Runtime
    jitter: Callable[[], float] = random.random


@dataclass(slots=True)
class AttemptRun:
    """An attempt from its claim, which was sent at `since` on the monotonic clock, to its outcome."""

    tools: Tools
    claimed: Claimed
    delivery: Delivery
    stop: Stop
    steps: Steps
    since: float
    keeper: Keeper = field(init=False)

    def __post_init__(self) -> None:
        """Get the lease a keeper, which begins with the work."""
        self.keeper = self.tools.keep(self.lease, self.delivery, self.stop, self.since)

    @property
    def lease(self) -> Lease:
        """The attempt's claim on its job."""
        return self.claimed.lease

    @property
    def video(self) -> Video:
        """What is worked on."""
        return self.claimed.record.video

    def run(self) -> Report:
        """Do the work until its outcome is committed, or somebody else's is.

        Raises:
            Unavailable: no outcome could be committed.
        """
        try:
            with self.keeper:
                result = self._make()
                self.steps("publish")
                outcome = self._publish(result)
        except LeaseLost:
            outcome = self._winner()
        except Exception as error:  # noqa: BLE001 - whatever it was, the job must go on
            self.steps("settle")
            settlement = self._plan(error)
            return self._report(self._settle(settlement), settlement)
        return self._report(outcome)

    def _report(self, outcome: Outcome, settlement: Settlement | None = None) -> Report:
        return Report(
            outcome,
            self.delivery.message_id,
            video_id=self.lease.video_id,
            attempt_id=self.lease.attempt_id,
            fence=self.lease.fence,
            counters=settlement.counters if settlement else self.lease.counters,
            problem=settlement.error if settlement else None,
        )

    def _make(self) -> Result:
        self.steps("download")
        source = self._despite_the_bucket(self._download)
        resources = self._despite_the_bucket(self.tools.load_resources)
        self.stop.check()
        rendered = self.tools.renderer.render(
            source,
            self.video.edit,
            self.video.title,
            source.parent,
            on_progress=lambda done: self.keeper.progress(DOWNLOADED + (RENDERED - DOWNLOADED) * done),
            on_step=self.steps,
            stop=self.stop,
            resources=resources,
        )
        self.steps("upload")
        return self._despite_the_bucket(lambda: self._upload(rendered))

    def _download(self) -> Path:
        objects, key = self.tools.objects, self.video.source_key
        missing = Transient("source_missing", f"The uploaded file {key} is not in the bucket.")
        stored = objects.head(key)
        if stored is None:
            raise missing
        source = self.tools.scratch.make(self.lease.attempt_id, stored.size) / "source"
        received = 0

        def on_bytes(size: int) -> None:
            nonlocal received
            self.stop.check()
            received += size
            self.keeper.progress(DOWNLOADED * min(1.0, received / max(1, stored.size)))

        try:
            objects.fetch(key, source, on_bytes=on_bytes)
        except NotFound:
            raise missing from None
        return source

    def _upload(self, rendered: Rendered) -> Result:
        key, sent = self.lease.result_key, 0
        with (
            rendered.path.open("rb") as file,
            self.tools.objects.writing(key, content_type="video/mp4") as writer,
        ):
            while piece := file.read(PIECE):
                self.stop.check()
                writer.write(piece)
                sent += len(piece)
                self.keeper.progress(RENDERED + (1 - RENDERED) * sent / rendered.size)
            writer.commit()
        return Result(
            key=key,
            size=rendered.size,
            sha256=rendered.sha256,
            width=rendered.width,
            height=rendered.height,
            duration=rendered.duration,
            frames=rendered.frames,
        )

    def _despite_the_bucket(self, call: Callable[[], _T]) -> _T:
        """A bucket that is away for a moment is no reason to throw a minute's work away."""
        return patiently(
            call,
            self.tools.runtime,
            "the bucket is away, tried again",
            worthwhile=lambda error: error.part == "bucket",
            until=self.tools.runtime.monotonic() + PATIENCE.total_seconds(),
            check=self.stop.check,
        )

    def _publish(self, result: Result) -> Outcome:
        """Try until it is decided; the keeper asks to stop when that takes longer than the lease."""
        published = patiently(
            lambda: self.tools.store.publish(self.lease, result),
            self.tools.runtime,
            "publishing is tried again",
            check=self.stop.check,
            video_id=self.lease.video_id,
        )
        return Outcome.PROCESSED if published else self._winner()

    def _plan(self, error: Exception) -> Settlement:
        if not isinstance(error, AnbError):
            _log.error("the attempt failed unexpectedly", video_id=self.lease.video_id, exc_info=error)
        return plan_ending(error, self.lease.counters, self.tools.policy, self.tools.jitter())

    def _settle(self, settlement: Settlement) -> Outcome:
        """Try at least once, and again while nobody else can have taken the lease.

        Raises:
            Unavailable: the outcome could not be committed.
        """
        settled = patiently(
            lambda: self.tools.store.settle(self.lease, settlement),
            self.tools.runtime,
            "settling is tried again",
            until=self.keeper.deadline,
            video_id=self.lease.video_id,
        )
        if not settled:
            # The answer to an earlier commit of ours may have been lost, so the row is asked.
            return self._winner()
        if settlement.delay is not None and not settlement.delay:
            self._send()
        return Outcome.of(settlement)

    def _winner(self) -> Outcome:
        """A fenced write changed nothing: the job was taken over, or an earlier write of ours got no answer."""
        try:
            record = self.tools.store.get(self.lease.video_id)
        except Unavailable:
            return Outcome.SUPERSEDED
        result = record.job.result if record is not None else None
        ours = result is not None and result.key == self.lease.result_key
        return Outcome.PROCESSED if ours else Outcome.SUPERSEDED

    def _send(self) -> None:
        """The job goes on elsewhere at once; if this fails, any other relay sends it."""
        try:
            self.tools.relay.send_due()
        except Unavailable as error:
            _log.warning("the message is left to another relay", reason=error.message)
