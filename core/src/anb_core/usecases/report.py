"""The report about one delivery: how its handling ended, and how long each step took."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from anb_core.domain.errors import Unavailable
from anb_core.domain.model import Counters, Ending, Problem
from anb_core.domain.retry import INTERRUPTIONS_ALARM, Settlement
from anb_core.ports.runtime import Runtime


class Outcome(StrEnum):
    """How the handling of a delivery ended."""

    PROCESSED = "processed"
    """The result was published as the job's current result."""
    REJECTED = "rejected"
    """The uploaded video can't be processed, so the job ended as `failed`."""
    FAILED = "failed"
    """The attempt failed, and another attempt follows."""
    DEAD_LETTERED = "dead_lettered"
    """The attempt failed, and the job became a dead letter."""
    HANDED_ON = "handed_on"
    """The worker shut down, or the database, bucket or queue did not answer. Another attempt follows."""
    SUPERSEDED = "superseded"
    """A person cancelled or deleted the video, or another attempt took the job over."""
    DROPPED = "dropped"
    """No attempt could begin, so the message was deleted."""
    RECORDED = "recorded"
    """The message belongs to no job, and was recorded as a dead letter."""
    ADOPTED = "adopted"
    """The message named objects of other programs, which were adopted. Each new job gets a message of its own."""
    IGNORED = "ignored"
    """The message is an event notification that requires no action."""
    GIVEN_BACK = "given_back"
    """The outcome could not be committed, or a row is unreadable. The message will be received again after a pause."""

    @classmethod
    def of(cls, settlement: Settlement) -> "Outcome":
        """Return the outcome for an attempt that ended without a result."""
        match settlement:
            case Settlement(ending=Ending.REJECTED):
                return cls.REJECTED
            case Settlement(ending=Ending.INTERRUPTED):
                return cls.HANDED_ON
            case Settlement(delay=None):
                return cls.DEAD_LETTERED
        return cls.FAILED


@dataclass(frozen=True, slots=True)
class Report:
    """The report about one delivery."""

    outcome: Outcome
    message_id: str
    video_id: str | None = None
    attempt_id: str | None = None
    """Id of the attempt. `attempt_id`, `fence` and `counters` are None if no attempt began."""
    fence: int | None = None
    counters: Counters | None = None
    """The job's counters of failures, losses and interruptions after the attempt. None if no attempt began."""
    problem: Problem | None = None
    """The error that ended the attempt. None if the attempt has a result, or if no attempt began."""
    unavailable: Unavailable | None = None
    """The outage that prevented the commit of the outcome, or None."""
    detail: str | None = None
    """The ids of the adopted videos, or the reason why the message was dropped, recorded, ignored or returned."""
    steps: Mapping[str, float] = field(default_factory=dict)
    """Maps the name of each step to its duration in seconds, in the order of the steps."""

    @property
    def seconds(self) -> float:
        """Duration of all steps together, in seconds."""
        return sum(self.steps.values())

    @property
    def alarming(self) -> bool:
        """Whether the job was interrupted so often that a person should look for the cause."""
        interruptions = self.counters.interruptions if self.counters else 0
        return self.outcome is Outcome.HANDED_ON and interruptions >= INTERRUPTIONS_ALARM


class Steps:
    """Measures the duration of each step. When a step begins, `on_step` gets the name of the step."""

    def __init__(self, on_step: Callable[[str], None], runtime: Runtime) -> None:
        self._on_step = on_step
        self._runtime = runtime
        self._began: list[tuple[str, float]] = []

    def __call__(self, name: str) -> None:
        """End the previous step and begin the step `name`."""
        self._began.append((name, self._runtime.monotonic()))
        self._on_step(name)

    def seconds(self) -> dict[str, float]:
        """Return the duration of each step in seconds. The last step ends now."""
        ends = [began for _, began in self._began[1:]] + [self._runtime.monotonic()]
        durations: dict[str, float] = {}
        for (name, began), end in zip(self._began, ends, strict=True):
            durations[name] = durations.get(name, 0.0) + end - began
        return durations
