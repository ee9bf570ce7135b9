"""One attempt to process a video: download, render, upload and publish. After an error, settle the attempt."""

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
from anb_core.domain.object_notes import note_of_result
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
"""Size in bytes of the chunks in which the result is uploaded."""

PATIENCE = timedelta(seconds=60)
"""An attempt waits for the bucket for at most this time. A longer outage ends the attempt."""

DOWNLOADED = 0.1
RENDERED = 0.9
"""Progress (0 to 1) after the download and after the rendering. The rest is the upload of the result."""

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")


class AttemptStore(Leases, Reading, Protocol):
    """The protocols of the store that an attempt uses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The ports and settings that all attempts of a worker share."""

    store: AttemptStore
    objects: Objects
    renderer: Renderer
    relay: Relay
    keep: Keep
    scratch: Scratch
    load_resources: Callable[[], Resources]
    """Returns those of the deployment's own intro, outro and watermark that exist. Downloads them if necessary."""
    policy: RetryPolicy
    runtime: Runtime
    jitter: Callable[[], float] = random.random
    """Returns a random number from [0, 1) for the backoff."""


@dataclass(slots=True)
class AttemptRun:
    """One attempt, from its claim to its outcome."""

    tools: Tools
    claimed: Claimed
    delivery: Delivery
    stop: Stop
    steps: Steps
    since: float
    """Monotonic time in seconds, read just before the claim. The lease can't have begun earlier."""
    keeper: Keeper = field(init=False)

    def __post_init__(self) -> None:
        """Create the keeper of the lease. The method `run` starts the keeper."""
        self.keeper = self.tools.keep(self.lease, self.delivery, self.stop, self.since)

    @property
    def lease(self) -> Lease:
        """The lease of the attempt."""
        return self.claimed.lease

    @property
    def video(self) -> Video:
        """The video of the job."""
        return self.claimed.record.video

    def run(self) -> Report:
        """Run the attempt until its outcome is committed, or until the lease is lost.

        Raises:
            Unavailable: the database did not answer, so the outcome was not committed.
        """
        try:
            with self.keeper:
                result = self._make()
                self.steps("publish")
                outcome = self._publish(result)
        except LeaseLost:
            outcome = self._read_outcome()
        except Exception as error:  # noqa: BLE001 - the job must continue after any error
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
        source = self._retry_bucket(self._download)
        resources = self._retry_bucket(self.tools.load_resources)
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
        return self._retry_bucket(lambda: self._upload(rendered))

    def _download(self) -> Path:
        key, scratch, attempt_id = self.video.source_key, self.tools.scratch, self.lease.attempt_id
        source = scratch.folder(attempt_id) / "source"
        whole = received = 0

        def on_size(size: int) -> None:
            nonlocal whole
            whole = size
            scratch.make(attempt_id, size)

        def on_bytes(size: int) -> None:
            nonlocal received
            self.stop.check()
            received += size
            self.keeper.progress(DOWNLOADED * min(1.0, received / whole))

        try:
            self.tools.objects.fetch(key, source, on_size=on_size, on_bytes=on_bytes)
        except NotFound:
            raise Transient("source_missing", f"The uploaded file {key} is not in the bucket.") from None
        return source

    def _upload(self, rendered: Rendered) -> Result:
        sent = 0
        result = Result(
            key=self.lease.result_key,
            size=rendered.size,
            sha256=rendered.sha256,
            width=rendered.width,
            height=rendered.height,
            duration=rendered.duration,
            frames=rendered.frames,
        )
        note = note_of_result(result, self.lease.worker)
        with (
            rendered.path.open("rb") as file,
            self.tools.objects.writing(result.key, content_type="video/mp4", note=note) as writer,
        ):
            while piece := file.read(PIECE):
                self.stop.check()
                writer.write(piece)
                sent += len(piece)
                self.keeper.progress(RENDERED + (1 - RENDERED) * sent / rendered.size)
            writer.commit()
        return result

    def _retry_bucket(self, call: Callable[[], _T]) -> _T:
        """Make a call, and repeat it during a short outage of the bucket. Otherwise finished work would be lost."""
        return patiently(
            call,
            self.tools.runtime,
            "the bucket is away, tried again",
            worthwhile=lambda error: error.part == "bucket",
            until=self.tools.runtime.monotonic() + PATIENCE.total_seconds(),
            check=self.stop.check,
        )

    def _publish(self, result: Result) -> Outcome:
        """Publish the result. Retry until the database answers, or until the attempt is asked to stop."""
        published = patiently(
            lambda: self.tools.store.publish(self.lease, result),
            self.tools.runtime,
            "publishing is tried again",
            check=self.stop.check,
            video_id=self.lease.video_id,
        )
        return Outcome.PROCESSED if published else self._read_outcome()

    def _plan(self, error: Exception) -> Settlement:
        if not isinstance(error, AnbError):
            _log.error("the attempt failed unexpectedly", video_id=self.lease.video_id, exc_info=error)
        return plan_ending(error, self.lease.counters, self.tools.policy, self.tools.jitter())

    def _settle(self, settlement: Settlement) -> Outcome:
        """Settle the attempt. Retry until the time at which the lease may expire.

        Raises:
            Unavailable: the database did not answer, so the settlement was not committed.
        """
        settled = patiently(
            lambda: self.tools.store.settle(self.lease, settlement),
            self.tools.runtime,
            "settling is tried again",
            until=self.keeper.deadline,
            video_id=self.lease.video_id,
        )
        if not settled:
            # Either the lease is lost, or an earlier try has settled the attempt and only the response was lost.
            return self._read_outcome()
        if settlement.delay is not None and not settlement.delay:
            self._send()
        return Outcome.of(settlement)

    def _read_outcome(self) -> Outcome:
        """Read the outcome from the job's row, after a write of this attempt was refused because of a lost lease.

        Either another attempt has the job now, or an earlier write has already ended this attempt.
        """
        try:
            record = self.tools.store.get(self.lease.video_id)
        except Unavailable:
            return Outcome.SUPERSEDED
        result = record.job.result if record is not None else None
        is_ours = result is not None and result.key == self.lease.result_key
        return Outcome.PROCESSED if is_ours else Outcome.SUPERSEDED

    def _send(self) -> None:
        """Send the job's message now, so that a worker begins at once. If this fails, a relay sends it later."""
        try:
            self.tools.relay.send_due()
        except Unavailable as error:
            _log.warning("the message is left to another relay", reason=error.message)
