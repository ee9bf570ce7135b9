"""Every schedule with two events, for one video, two workers, the relays, the sweeps and one command of a person.

An event is a fault, a command, or a preemption: a call that comes later than the calls of others.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.simulation.faults import Call, Fault, Kind, Place, Schedule, possible
from tests.simulation.setup import Setup
from tests.simulation.simulation import Run, run

FAULTS: Sequence[Fault] = (
    *(Fault(kind) for kind in (Kind.LOSE_ANSWER, Kind.SEND_TWICE, Kind.FORGET, Kind.KEEP, Kind.MOVE)),
    *(Fault(kind) for kind in (Kind.FAIL, Kind.REJECT, Kind.CANCEL, Kind.RETRY, Kind.TERMINATE)),
    Fault(Kind.DIE_AFTER, 1.0),
)
"""The faults and the commands that `make chaos` tries. A death before a call is like one after the call before."""

ALL_FAULTS: Sequence[Fault] = (
    *FAULTS,
    Fault(Kind.REFUSE),
    Fault(Kind.DELETE),
    Fault(Kind.REDELIVER),
    Fault(Kind.CLOCK_BACK, 60.0),
    Fault(Kind.CLOCK_FORWARD, 60.0),
)

PREEMPTIONS: Sequence[Fault] = (Fault(Kind.WAIT, 0.0), Fault(Kind.WAIT, 8.0), Fault(Kind.LATE, 8.0))
"""A call lets the others go first, or is late by more than a lease, before or after its effect."""

FAILED_RENDER: Schedule = {Place("worker-1", 6): Fault(Kind.FAIL)}
"""A first try that fails. Many defects need a job that waits for its next try."""

TO_WORKERS = {Kind.CANCEL, Kind.RETRY, Kind.DELETE, Kind.TERMINATE, Kind.CLOCK_BACK, Kind.CLOCK_FORWARD, Kind.REDELIVER}
"""Kinds of events that could happen at any call. They happen while a worker calls the database."""

DULL = {
    *("ping", "delay", "retention", "depth", "purge", "writing", "write", "end writing", "end exclusively"),
    *("renew_upload", "head", "fetch"),
}
"""Calls at which no event happens, because it would be the same as at the call before or after."""


@dataclass(frozen=True, slots=True)
class Search:
    """Which schedules are tried: each of the events `first`, and after it each of `second`."""

    base: Schedule
    """The events that happen in every run."""
    first: Sequence[Fault]
    second: Sequence[Fault]
    part: int = 0
    of: int = 1
    """A search is divided into `of` parts, which together try all schedules. This is the part number `part`, from 0."""

    def runs(self) -> Iterator[Run]:
        """Yield all runs."""
        whole = run(0, self.base, setup=Setup())
        places = [call for call in whole.calls if call.method not in DULL and call.place not in self.base]
        for call in places[self.part :: self.of]:
            for event in events_at(call, self.first):
                schedule = {**self.base, call.place: event}
                one = run(0, schedule, setup=Setup())
                yield one
                begin = [other.place for other in one.calls].index(call.place) + 1
                for later in one.calls[begin:]:
                    if later.place not in self.base:
                        for other in events_at(later, self.second):
                            # Up to the second event, this run is the same as `one`, which was judged.
                            yield run(0, {**schedule, later.place: other}, setup=Setup(), judged_from=later.place)


def events_at(call: Call, events: Iterable[Fault]) -> Iterator[Fault]:
    """Yield those of the events that can happen at a call."""
    for event in events if call.method not in DULL else ():
        fits = event.kind not in TO_WORKERS or (call.part == "database" and call.place.thread.startswith("worker"))
        if fits and possible(event.kind, call.part, call.method):
            yield event


def searches(parts: int) -> Iterator[Search]:
    """Yield the parts of all searches: two faults, and a fault and a preemption, without and with a failed try."""
    for base in ({}, FAILED_RENDER):
        for part in range(parts):
            yield Search(base, ALL_FAULTS, (*ALL_FAULTS, *PREEMPTIONS), part, parts)
            yield Search(base, PREEMPTIONS, ALL_FAULTS, part, parts)
