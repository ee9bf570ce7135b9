"""What became of a delivery, and how long each step of it took."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from anb_core.domain.errors import Unavailable
from anb_core.domain.model import Counters, Ending, Problem
from anb_core.domain.retry import INTERRUPTIONS_ALARM, Settlement
from anb_core.ports.runtime import Runtime


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

    @classmethod
    def of(cls, settlement: Settlement) -> "Outcome":
        """What the end of an attempt without a result means for the delivery."""
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
    """What was done with a delivery. `steps` maps each step, in order, to the seconds it took."""

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

    @property
    def alarming(self) -> bool:
        """Whether the job was interrupted so often that a person should look."""
        interruptions = self.counters.interruptions if self.counters else 0
        return self.outcome is Outcome.HANDED_ON and interruptions >= INTERRUPTIONS_ALARM


class Steps:
    """Names the steps as they begin, and measures them."""

    def __init__(self, on_step: Callable[[str], None], runtime: Runtime) -> None:
        self._on_step = on_step
        self._runtime = runtime
        self._began: list[tuple[str, float]] = []

    def __call__(self, name: str) -> None:
        """The step `name` begins, and the one before it is over."""
        self._began.append((name, self._runtime.monotonic()))
        self._on_step(name)

    def seconds(self) -> dict[str, float]:
        """How long each step took, the last one until now."""
        ends = [began for _, began in self._began[1:]] + [self._runtime.monotonic()]
        taken: dict[str, float] = {}
        for (name, began), end in zip(self._began, ends, strict=True):
            taken[name] = taken.get(name, 0.0) + end - began
        return taken
