"""What can go wrong at a call of a port, and which of it goes wrong in a run.

A schedule says for some places of a run which fault happens there. The same schedule always gives the same run.
"""

import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol


class Kind(StrEnum):
    """The kinds of faults. The value completes a sentence of the story."""

    WAIT = "the call begins {seconds:g} s later"
    LATE = "the answer comes {seconds:g} s later"
    FREEZE = "the process stands still for {seconds:g} s"
    DIE_BEFORE = "the process dies before the call, and starts again {seconds:g} s later"
    DIE_AFTER = "the process dies after the call, and starts again {seconds:g} s later"
    TERMINATE = "the process gets a SIGTERM"
    REFUSE = "the call fails and changes nothing"
    LOSE_ANSWER = "the call succeeds, but its answer is lost"
    OUTAGE = "no call succeeds for {seconds:g} s"
    SEND_TWICE = "the queue has the message twice"
    FORGET = "the queue forgets the message"
    KEEP = "the queue keeps the deleted message"
    REDELIVER = "the queue shows all received messages again"
    REVERSE = "the queue reverses the order of its messages"
    MOVE = "the queue moves its messages to the dead-letter queue"
    CLOCK_BACK = "the clock of the database is set back by {seconds:g} s"
    CLOCK_FORWARD = "the clock of the database is set forward by {seconds:g} s"
    OWN_CLOCK_BACK = "the clock of the process is set back by {seconds:g} s"
    OWN_CLOCK_FORWARD = "the clock of the process is set forward by {seconds:g} s"
    LOCK = "another session locks the rows of all videos for {seconds:g} s"
    CONFLICT = "another program has changed the VideoJob"
    WATCH_DIES = "the watch of VideoJobs shows nothing for {seconds:g} s"
    FAIL = "the render fails"
    REJECT = "the video is damaged"
    CANCEL = "a person cancels the video"
    RETRY = "a person retries the video"
    DELETE = "a person deletes the video"
    REDRIVE = "a person redrives the dead letter of the video"
    DISCARD = "a person discards the dead letter of the video"


class Fault(NamedTuple):
    kind: Kind
    seconds: float = 0.0

    def __str__(self) -> str:
        return self.kind.format(seconds=self.seconds)


class Place(NamedTuple):
    """A call of a port: the name of the thread, and how many calls this thread has made before."""

    thread: str
    number: int

    def __str__(self) -> str:
        return f"call {self.number} of {self.thread}"


class Call(NamedTuple):
    """A call that a thread made."""

    place: Place
    part: str
    method: str


Schedule = Mapping[Place, Fault]

GROUPS: tuple[tuple[Kind, ...], ...] = (
    (Kind.WAIT, Kind.LATE, Kind.FREEZE),
    (Kind.DIE_BEFORE, Kind.DIE_AFTER, Kind.TERMINATE),
    (Kind.REFUSE, Kind.LOSE_ANSWER, Kind.OUTAGE),
    (Kind.SEND_TWICE, Kind.FORGET, Kind.REDELIVER, Kind.REVERSE),
    (Kind.MOVE, Kind.KEEP, Kind.SEND_TWICE),
    (Kind.CLOCK_BACK, Kind.CLOCK_FORWARD),
    (Kind.OWN_CLOCK_BACK, Kind.OWN_CLOCK_FORWARD, Kind.SEND_TWICE),
    (Kind.CONFLICT, Kind.WATCH_DIES, Kind.LOSE_ANSWER, Kind.DIE_AFTER),
    (Kind.LOCK, Kind.LATE, Kind.DIE_AFTER),
    (Kind.FAIL, Kind.REJECT),
    (Kind.CANCEL, Kind.RETRY, Kind.DELETE),
)
"""Kinds of faults that often need one another to show a defect."""

REMOTE = {"database", "bucket", "queue", "dead letters", "kubernetes"}
HOT = (
    *("claim", "renew", "publish", "settle", "report_progress", "hold_outbox", "mark_sent", "send", "receive"),
    *("delete", "begin_upload", "complete_upload", "commit", "render", "end_expired_leases", "cancel", "retry"),
    *("requeue_unclaimed", "requeue_overdue", "receive_dead_letter", "get", "create_videojob", "patch_status"),
)
"""Calls near which most defects are."""

ROW_WRITES = {
    *("renew_upload", "complete_upload", "abandon_upload", "claim", "renew", "report_progress", "publish", "settle"),
    *("mark_sent", "mark_unsent", "receive_dead_letter", "redrive_dead_letter", "discard_dead_letter"),
    *("cancel", "retry", "delete"),
}
"""Calls that wait for the lock of a video's rows. The other ones read, or leave locked rows out."""

LONG = (0.0, 1.0, 5.0, 8.0, 40.0)
"""Delays in seconds: let the others go first, a pause, nearly a lease, more than a lease, more than a hold."""

SECONDS: Mapping[Kind, tuple[float, ...]] = {
    Kind.WAIT: LONG,
    Kind.LATE: LONG,
    Kind.FREEZE: LONG[1:],
    Kind.DIE_BEFORE: (1.0, 30.0),
    Kind.DIE_AFTER: (1.0, 30.0),
    Kind.OUTAGE: (3.0, 15.0, 70.0),
    Kind.CLOCK_BACK: (4.0, 60.0),
    Kind.CLOCK_FORWARD: (4.0, 60.0),
    Kind.OWN_CLOCK_BACK: (10.0, 600.0),
    Kind.OWN_CLOCK_FORWARD: (10.0, 600.0),
    Kind.WATCH_DIES: (3.0, 60.0),
    Kind.LOCK: (2.0, 10.0, 60.0),
}

_AT: Mapping[Kind, Callable[[str, str], bool]] = {
    Kind.REFUSE: lambda part, _: part in REMOTE,
    Kind.LOSE_ANSWER: lambda part, _: part in REMOTE,
    Kind.OUTAGE: lambda part, _: part in REMOTE,
    Kind.SEND_TWICE: lambda part, method: (part, method) == ("queue", "send"),
    Kind.FORGET: lambda part, method: (part, method) == ("queue", "send"),
    Kind.KEEP: lambda part, method: part in {"queue", "dead letters"} and method == "delete",
    Kind.REDELIVER: lambda part, _: part == "database",
    Kind.REVERSE: lambda _, method: method == "receive",
    Kind.MOVE: lambda _, method: method == "receive",
    Kind.OWN_CLOCK_BACK: lambda part, method: part == "database" and method in HOT,
    Kind.OWN_CLOCK_FORWARD: lambda part, method: part == "database" and method in HOT,
    Kind.LOCK: lambda part, method: part == "database" and method in ROW_WRITES,
    Kind.CONFLICT: lambda part, method: part == "kubernetes" and method in {"patch_status", "delete_videojob"},
    Kind.WATCH_DIES: lambda part, _: part == "kubernetes",
    Kind.FAIL: lambda _, method: method == "render",
    Kind.REJECT: lambda _, method: method == "render",
}
"""For kinds of faults that need a certain call: whether a call is such a call."""


def possible(kind: Kind, part: str, method: str) -> bool:
    """Return whether a fault of this kind can happen at a call of `method` of the port `part`."""
    at = _AT.get(kind)
    return at is None or at(part, method)


def faults_at(call: Call) -> Iterator[Fault]:
    """Return the faults that can happen at a call, with the shortest and the longest duration of each kind."""
    for kind in Kind:
        if possible(kind, call.part, call.method):
            durations = SECONDS.get(kind, (0.0,))
            yield from (Fault(kind, seconds) for seconds in sorted({durations[0], durations[-1]}))


class Plan(Protocol):
    """Decides at each call of a port whether a fault happens there."""

    def fault(self, place: Place, part: str, method: str) -> Fault | None: ...


@dataclass(frozen=True, slots=True)
class Replay:
    """Lets the faults of a schedule happen, and no other ones."""

    schedule: Schedule

    def fault(self, place: Place, part: str, method: str) -> Fault | None:
        fault = self.schedule.get(place)
        return fault if fault and possible(fault.kind, part, method) else None


class Focus(NamedTuple):
    """Where to look for a certain defect."""

    kinds: Sequence[Kind]
    calls: Collection[str]
    moves: int | None = None
    """Number of moves between brokers. None if the seed chooses it."""
    mirrored: bool | None = None
    """Whether the operator keeps VideoJobs. None if the seed chooses it."""


@dataclass(slots=True)
class Chance:
    """Lets a few faults of a few kinds happen at random, mostly near a few kinds of calls. `taken` has these faults.

    Without a `focus`, the kinds of faults and of calls are random, too.
    """

    random: random.Random
    focus: Focus | None = None
    taken: dict[Place, Fault] = field(default_factory=dict)
    _left: int = field(init=False)
    _kinds: Sequence[Kind] = field(init=False)
    _hot: Collection[str] = field(init=False)

    def __post_init__(self) -> None:
        self._left = self.random.choice((1, 2, 3, 4, 6, 8))
        self._kinds = [kind for group in self.random.sample(GROUPS, self.random.randint(1, 3)) for kind in group]
        self._hot = set(self.random.sample(HOT, self.random.randint(2, 5)))
        if self.focus:
            self._kinds, self._hot = self.focus.kinds, self.focus.calls

    def fault(self, place: Place, part: str, method: str) -> Fault | None:
        if not self._left or self.random.random() > (0.4 if method in self._hot else 0.02):
            return None
        kinds = [kind for kind in self._kinds if possible(kind, part, method)]
        if not kinds:
            return None
        self._left -= 1
        kind = self.random.choice(kinds)
        self.taken[place] = Fault(kind, self.random.choice(SECONDS.get(kind, (0.0,))))
        return self.taken[place]
