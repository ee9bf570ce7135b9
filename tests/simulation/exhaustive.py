"""Schedules with two events, or with three, for one video, two workers, the relays, the sweeps and commands of people.

An event is a fault, a command, or a preemption: a call that comes later than the calls of others. Each event of a list
is tried at each call, except that some calls are left out (`DULL`), and that some kinds of events happen only while a
worker calls the database (`TO_WORKERS`). This makes the search short enough. The random runs have none of these limits.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.simulation.faults import Call, Fault, Kind, Place, Schedule, possible
from tests.simulation.setup import Setup
from tests.simulation.simulation import Run, run
from tests.simulation.steps import ABANDONED, LATE_MESSAGE, LOCKED, MIRRORED, MOVES, NEAR_THE_END, WATCH_DEAD

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

EVENTS: Mapping[int, Sequence[Sequence[Sequence[Fault]]]] = {
    2: ((ALL_FAULTS, (*ALL_FAULTS, *PREEMPTIONS)), (PREEMPTIONS, ALL_FAULTS)),
    3: (
        (ALL_FAULTS, ALL_FAULTS, PREEMPTIONS),
        (ALL_FAULTS, PREEMPTIONS, ALL_FAULTS),
        (PREEMPTIONS, ALL_FAULTS, ALL_FAULTS),
    ),
}
"""The searches with two events (two faults, or a fault and a preemption), and with three (two faults, a preemption)."""

FAILED_RENDER: Schedule = {Place("worker-1", 6): Fault(Kind.FAIL)}
"""A first try that fails. Many defects need a job that waits for its next try."""

TO_WORKERS = {Kind.CANCEL, Kind.RETRY, Kind.DELETE, Kind.TERMINATE, Kind.CLOCK_BACK, Kind.CLOCK_FORWARD, Kind.REDELIVER}
"""Kinds of events that could happen at any call. They happen while a worker calls the database."""

UNSEARCHED = {
    *("L7: a job is a dead letter", "a person redrove a dead letter", "a person discarded a dead letter"),
    *(NEAR_THE_END, ABANDONED, LOCKED, *MOVES, LATE_MESSAGE, MIRRORED, WATCH_DEAD),
}
"""Conditions that need more events, or other ones, or another setup than the search has."""

DULL = {
    *("ping", "delay", "retention", "depth", "purge", "writing", "write", "end writing", "end exclusively"),
    *("renew_upload", "head", "fetch"),
}
"""Calls at which no event is tried, to save time. They change neither a job nor a message.

So a preemption or a death there is like one at the next call. A `head`, a `fetch` or a `write` that fails is no such
case: the random runs try it, and the test of all single faults.
"""


@dataclass(frozen=True, slots=True)
class Search:
    """Which schedules are tried: each of the first events, after it each of the second ones, and so on."""

    base: Schedule
    """The events that happen in every run."""
    events: Sequence[Sequence[Fault]]
    """The first events, the second ones, and so on."""
    part: int = 0
    of: int = 1
    """A search is divided into `of` parts, which together try all schedules. This is the part number `part`, from 0."""

    def runs(self) -> Iterator[Run]:
        """Yield all runs."""
        whole = run(0, self.base, setup=Setup())
        yield whole
        calls = [call for call in whole.calls if call.method not in DULL]
        yield from self._runs(whole.schedule, calls[self.part :: self.of], self.events)

    def _runs(self, schedule: Schedule, calls: Iterable[Call], events: Sequence[Sequence[Fault]]) -> Iterator[Run]:
        """Yield the runs of a schedule with one more event at one of the calls, and with the other events after it."""
        for call in calls:
            for event in events_at(call, events[0]) if call.place not in self.base else ():
                # Up to this event, the run is the same as that without the event, which was judged.
                one = run(0, {**schedule, call.place: event}, setup=Setup(), judged_from=call.place)
                yield one
                if len(events) > 1:
                    following = [other.place for other in one.calls].index(call.place) + 1
                    yield from self._runs(one.schedule, one.calls[following:], events[1:])


def events_at(call: Call, events: Iterable[Fault]) -> Iterator[Fault]:
    """Yield those of the events that can happen at a call."""
    for event in events if call.method not in DULL else ():
        fits = event.kind not in TO_WORKERS or (call.part == "database" and call.place.thread.startswith("worker"))
        if fits and possible(event.kind, call.part, call.method):
            yield event


def searches(parts: int, number: int) -> Iterator[Search]:
    """Yield the parts of all searches with a number of events (2 or 3), without and with a failed try."""
    for base in ({}, FAILED_RENDER):
        for events in EVENTS[number]:
            yield from (Search(base, events, part, parts) for part in range(parts))
