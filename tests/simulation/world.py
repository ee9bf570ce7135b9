"""The world of one run: clocks, database, bucket and queues in memory, and the ports through which processes see them.

Every call of a port is a place where a fault may happen. After every change, the properties are checked.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from anb_core.domain.errors import BadInput, Transient, Unavailable
from anb_core.ports.queue import Delivery
from anb_core.ports.store import Claimed
from anb_core.testing.clock import BEGINNING
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.promises import Evidence, in_memory_evidence
from anb_core.testing.store import InMemoryStore
from tests.simulation.faults import Call, Fault, Kind, Place, Plan
from tests.simulation.properties import Properties
from tests.simulation.queues import Queue
from tests.simulation.scheduler import Process, Runtime, Scheduler, Thread
from tests.simulation.steps import ABANDONED, Steps
from tests.simulation.story import brief

UNJUDGED = {
    *("get", "head", "depth", "retention", "delay", "ping", "render", "fetch", "exclusively", "end exclusively"),
    *("extend", "writing", "write", "end writing", "renew_upload", "report_progress"),
}
"""Calls after which the properties are not checked: they change nothing that a property is about, or, like progress,
nothing that the next check would not show as well."""

UNCHANGED = {
    *("hold_outbox", "end_expired_leases", "end_expired_uploads", "requeue_unclaimed", "requeue_overdue"),
    *("hold_deletions", "purge", "receive"),
}
"""Calls that changed nothing if they return nothing."""

CALL_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Setup:
    """How the programs of a run are installed."""

    uploads: int = 1
    """Number of clients that upload a video."""
    fifo: bool = False
    """Whether the queue is a FIFO queue."""
    queue_limit: int | None = None
    """The most messages that wait in the queue. None for no limit."""
    no_sweep_before: float = 0.0
    """Until this time, no process sweeps."""
    render_seconds: int = 3
    delay_seconds: int = 0
    """Time for which the queue hides each new message."""
    process_after: int | None = None
    """The seconds that a client gives as `process_after`. None if it gives no time."""
    keyed: bool = True
    """Whether the clients give an Idempotency-Key. Otherwise, an upload that is sent again makes another video."""


@dataclass(eq=False)
class World:
    """Everything outside of the processes. `person` carries out the command of a person, in a thread of its own."""

    seed: int
    setup: Setup
    plan: Plan
    properties: Properties
    lease_seconds: float
    visibility: timedelta
    scheduler: Scheduler = field(default_factory=Scheduler)
    objects: InMemoryObjects = field(default_factory=InMemoryObjects)
    receipts: set[str] = field(default_factory=set)
    """Ids of the videos whose upload was answered with 202."""
    answered: set[str] = field(default_factory=set)
    """Names of the clients that send their upload no more."""
    forgotten: list[str] = field(default_factory=list)
    """Bodies of the messages that the queue forgot."""
    errors: list[str] = field(default_factory=list)
    story: list[str] | None = None
    """Gets a line for each call and fault, if it is a list."""
    calls: list[Call] = field(default_factory=list)
    judged_from: Place | None = None
    """The call from which on the properties are checked. None for all calls."""
    disturbed_until: float = field(init=False)
    """The simulated time at which the effects of the last fault end."""
    contexts: list[AbstractContextManager[Any]] = field(default_factory=list)
    """The contexts that were entered. They are kept, because Python would end an unreachable one: it frees its lock."""
    commands: list[Thread] = field(default_factory=list)
    """The threads of the API that carry out the commands of people."""
    person: Callable[[Kind], None] = lambda _: None

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.runtime = Runtime(self.scheduler, Process("world"), self.errors)
        self.steps = Steps(self.scheduler, self.properties)
        self.store = InMemoryStore(self.database_now, partial(self.new_id, "row"))
        self.queue = Queue(
            "queue.fifo" if self.setup.fifo else "queue", self.visibility, now=self.true_now, runtime=self.runtime
        )
        self.queue.delay_of_new = timedelta(seconds=self.setup.delay_seconds)
        self.disturbed_until = self.setup.no_sweep_before
        self._clock_offset = 0.0
        self._outages: dict[str, float] = {}
        self._counts: Counter[str] = Counter()

    # -- time and ids

    def true_now(self) -> datetime:
        return BEGINNING + timedelta(seconds=self.scheduler.now)

    def database_now(self) -> datetime:
        return self.true_now() + timedelta(seconds=self._clock_offset)

    def seconds(self, at: datetime | None, offset: float = 0.0) -> float:
        """Return the simulated time that a clock shows as `at`. `offset` is what this clock is ahead."""
        return math.inf if at is None else (at - BEGINNING).total_seconds() - offset

    def next_outbox(self) -> float:
        """Return the simulated time at which the next entry of the outbox is due."""
        return self.seconds(
            min((row.send_after for row in self.store.outbox.values()), default=None), self._clock_offset
        )

    def next_sweep(self) -> float:
        """Return the simulated time from which a sweep may find something. 0 if it may find it now."""
        found = [deletion.due for deletion in self.store.deletions]
        for video_id, row in self.store.rows.items():
            job, at = row.record.job, row.record.job.lease_expires_at or row.upload_expires_at
            if at:
                found.append(at)
            elif not job.status.terminal and video_id not in self.store.outbox:
                return 0.0
        return self.seconds(min(found, default=None), self._clock_offset)

    def new_id(self, kind: str) -> str:
        self._counts[kind] += 1
        return f"{kind}-{self._counts[kind]}"

    @property
    def idle(self) -> bool:
        """Whether all jobs and commands are over, and no message is left."""
        commands = any(one.process.alive and one.is_alive() for one in self.commands)
        over = not commands and all(row.deleted_at or row.job.status.terminal for row in self.store.rows.values())
        return over and not (self.store.outbox or self.queue.bodies() or self.queue.dead_letters.bodies())

    @property
    def has_work_for_the_sweep(self) -> bool:
        """Whether objects are due for their deletion, or an upload has expired."""
        now = self.database_now()
        uploads = (row.upload_expires_at for row in self.store.rows.values())
        return any(deletion.due <= now for deletion in self.store.deletions) or any(at and at <= now for at in uploads)

    # -- processes

    def launch(self, name: str, main: Callable[[Process], None], *, after: float = 0.0) -> None:
        """Start a process. Whenever it ends or dies, it is started again."""
        process = Process(name)

        def run() -> None:
            main(process)
            self._kill(process, 1.0)

        process.restart = lambda seconds: self.launch(name, main, after=seconds)
        self.scheduler.start(process, name, run, after=after)

    def port(self, process: Process, part: str, target: object) -> Any:
        """Return a port that passes all calls on to `target`, unless a fault happens."""
        return Port(self, process, part, target)

    def disturbed(self, seconds: float) -> None:
        """Note that something happens from which the stated time counts. It lasts for some seconds."""
        self.disturbed_until = max(self.disturbed_until, self.scheduler.now + seconds)

    # -- calls

    def call(self, process: Process, part: str, method: str, effect: Callable[[], Any], args: object = ()) -> Any:
        """Make a call of a port, with the fault that the plan has for this place."""
        thread = self.scheduler.current
        try:
            outcome = self._call(process, part, method, effect, args)
        except Unavailable:
            thread.missing.add(part)
            raise
        self.steps.answered(thread, part)
        return outcome

    def _call(self, process: Process, part: str, method: str, effect: Callable[[], Any], args: object) -> Any:
        thread = self.scheduler.current
        place = Place(thread.name, self._counts[thread.name])
        self._counts[thread.name] += 1
        self.calls.append(Call(place, part, method))
        if place == self.judged_from:
            self.judged_from = None
            self.check()
        fault = self.plan.fault(place, part, method)
        if fault:
            self._tell(f"!! {place}: {fault}")
            self.disturbed(fault.seconds)
            self._before(fault, process, part)
        if self._outages.get(part, 0.0) > self.scheduler.now:
            self._tell(f"{thread.name}: {part}.{method}: no answer")
            raise Unavailable(part, f"The {part} does not answer.")
        begun = self.scheduler.now
        # Every call takes some time. So two changes never happen at the same time, as in a real database.
        self.scheduler.now += CALL_SECONDS
        outcome = self._effect(fault, effect, args)
        if method in {"claim", "renew"} and (outcome is True or isinstance(outcome, Claimed)):
            process.lease_until = begun + self.lease_seconds
        if self.story is not None and method != "ping":
            self._tell(f"{thread.name}: {part}.{method}({brief(args)}) -> {brief(outcome) or 'nothing'}")
        if method == "end_expired_uploads" and outcome:
            self.properties.seen[ABANDONED] = 1
        if not self.judged_from and method not in UNJUDGED and (outcome or method not in UNCHANGED):
            self.check()
        if fault:
            self._after(fault, process, part)
        return outcome

    def check(self, *, at_rest: bool = False) -> None:
        """Check all properties. If one is violated, the run ends here."""
        if self.setup.keyed:
            self.steps.uploaded(self.store, self.setup.uploads)
        if self.properties.violated(self.evidence(), at_rest=at_rest) and not at_rest:
            self.end()

    def end(self) -> None:
        """End the run here, because a property is violated. This method does not return."""
        self.scheduler.wait(None)

    def evidence(self) -> Evidence:
        evidence = in_memory_evidence(self.store, self.objects, self.queue, receipts=self.receipts)
        if self.forgotten:
            return replace(evidence, messages=[*(evidence.messages or ()), *self.forgotten])
        return evidence

    def _before(self, fault: Fault, process: Process, part: str) -> None:
        """Let a fault happen that happens before the call, or instead of it."""
        faults: dict[Kind, Callable[[], object]] = {
            Kind.WAIT: lambda: self.scheduler.wait(fault.seconds),
            Kind.FREEZE: partial(self._freeze, process, fault.seconds),
            Kind.DIE_BEFORE: partial(self._kill, process, fault.seconds),
            Kind.TERMINATE: partial(self._terminate, process),
            Kind.REFUSE: partial(self._refuse, Unavailable(part, f"The {part} does not answer.")),
            Kind.OUTAGE: lambda: self._outages.update({part: self.scheduler.now + fault.seconds}),
            Kind.REDELIVER: self.queue.redeliver,
            Kind.REVERSE: self.queue.reverse,
            Kind.MOVE: self.queue.exhaust,
            Kind.CLOCK_BACK: partial(self._set_clock, -fault.seconds),
            Kind.CLOCK_FORWARD: partial(self._set_clock, fault.seconds),
            Kind.FAIL: partial(self._refuse, Transient("verification_failed", "The result is not as planned.")),
            Kind.REJECT: partial(self._refuse, BadInput("corrupt", "Half of the frames can't be decoded.")),
            Kind.CANCEL: partial(self._command, fault.kind),
            Kind.RETRY: partial(self._command, fault.kind),
            Kind.DELETE: partial(self._command, fault.kind),
            Kind.REDRIVE: partial(self._command, fault.kind),
            Kind.DISCARD: partial(self._command, fault.kind),
        }
        if fault.kind in faults:
            faults[fault.kind]()

    def _freeze(self, process: Process, seconds: float) -> None:
        process.frozen_until = self.scheduler.now + seconds
        self.scheduler.wait(0.0)

    def _terminate(self, process: Process) -> None:
        process.stopping = True
        process.terminate()

    def _refuse(self, error: Exception) -> None:
        raise error

    def _set_clock(self, seconds: float) -> None:
        self._clock_offset += seconds

    def _command(self, kind: Kind) -> None:
        self.person(kind)
        self.scheduler.wait(0.0)

    def _effect(self, fault: Fault | None, effect: Callable[[], Any], args: Any) -> Any:
        match fault:
            case Fault(kind=Kind.SEND_TWICE):
                effect()
            case Fault(kind=Kind.FORGET):
                self.forgotten += [message.body for message in args[0]]
                return [None] * len(args[0])
            case Fault(kind=Kind.KEEP):
                return None
        return effect()

    def _after(self, fault: Fault, process: Process, part: str) -> None:
        match fault.kind:
            case Kind.LATE:
                self.scheduler.wait(fault.seconds)
            case Kind.DIE_AFTER:
                self._kill(process, fault.seconds)
            case Kind.LOSE_ANSWER:
                raise Unavailable(part, f"The answer of the {part} was lost.")

    def _kill(self, process: Process, seconds: float) -> None:
        process.restart(seconds)
        self.scheduler.die(process)

    def _tell(self, sentence: str) -> None:
        if self.story is not None:
            self.story.append(f"{self.scheduler.now:8.2f} s  {sentence}")


class Port:
    """A port of one process. Each method call goes through `World.call`."""

    def __init__(self, world: World, process: Process, part: str, target: object) -> None:
        self._world = world
        self._process = process
        self._part = part
        self._target = target

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        if not callable(attribute):
            return attribute
        if name in {"writing", "exclusively"}:
            made: Callable[..., Any] = partial(self._context, name, attribute)
        elif name == "receive":
            made = self._receive
        else:
            made = partial(self._call, name, attribute)
        setattr(self, name, made)
        return made

    def _call(self, name: str, method: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        return self._world.call(self._process, self._part, name, partial(method, *args, **options), args)

    @contextmanager
    def _context(self, name: str, method: Callable[..., Any], /, *args: Any, **options: Any) -> Iterator[Any]:
        world, process = self._world, self._process
        context: AbstractContextManager[Any] = method(*args, **options)
        world.contexts.append(context)

        def enter() -> Any:
            value = context.__enter__()
            if name == "exclusively":
                world.steps.begins_to_sweep(process, ours=value, now=world.database_now(), **options)
            return value

        def leave() -> None:
            context.__exit__(None, None, None)
            world.steps.ends_to_sweep(process)

        value = world.call(process, self._part, name, enter, args)
        try:
            yield Port(world, process, self._part, value) if name == "writing" else value
        finally:
            world.call(process, self._part, f"end {name}", leave)

    def _receive(self, *, wait: timedelta) -> Delivery | None:
        """Receive a message. Of the long polls that find nothing, only the last one before the end returns."""
        queue, scheduler, process = self._target, self._world.scheduler, self._process
        assert isinstance(queue, Queue)
        if not self._world.steps.receiving(scheduler.current):
            self._world.end()
        until = scheduler.now + wait.total_seconds()
        scheduler.wait(
            None,
            lambda: min(self._world.seconds(queue.next_visible()), until if process.stopping else math.inf),
        )
        delivery: Delivery | None = self._world.call(
            process, self._part, "receive", partial(queue.receive, wait=timedelta(0))
        )
        return delivery
