"""The world of one run: clocks, database, bucket and queues in memory, and the ports through which processes see them.

Every call of a port is a place where a fault may happen. After every change, the properties are checked.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from anb_core.adapters.database.engine import LOCK_WAIT
from anb_core.domain.errors import BadInput, Busy, Transient, Unavailable
from anb_core.ports.store import Claimed
from anb_core.testing.clock import BEGINNING
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.promises import Evidence, Shown, in_memory_evidence
from anb_core.testing.store import InMemoryStore
from anb_operator.kube import Outdated
from tests.simulation.faults import ROW_WRITES, Call, Fault, Kind, Place, Plan
from tests.simulation.ports import Port
from tests.simulation.properties import Properties
from tests.simulation.queues import Queue
from tests.simulation.scheduler import Process, Runtime, Scheduler, Thread
from tests.simulation.setup import Setup
from tests.simulation.steps import ABANDONED, LOCKED, MIRRORED, MOVES, WATCH_DEAD, Steps
from tests.simulation.story import brief
from tests.support.kube import InMemoryCluster

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

MAY_LOSE = {"claim", "end_expired_leases", "receive_dead_letter"}
"""Calls that may end an attempt as lost."""

CALL_SECONDS = 0.001

MOVE_SECONDS = 15.0
ROLLOUT_SECONDS = 4.0
"""Time between two moves of the programs to other brokers, and between two processes in one move."""


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
    videojobs: Callable[["World"], Mapping[str, Shown]] | None = None
    """Returns for each video what its VideoJob shows. None if the operator keeps no VideoJobs."""
    mirrored: Callable[["World"], bool] = lambda _: True
    """Returns whether the VideoJobs show all rows."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.runtime = Runtime(self.scheduler, Process("world"), self.errors)
        self.steps = Steps(self.scheduler, self.properties)
        self.store = InMemoryStore(self.database_now, partial(self.new_id, "row"))
        self.queue = Queue(
            "queue.fifo" if self.setup.fifo else "queue", self.visibility, now=self.true_now, runtime=self.runtime
        )
        self.queue.delay_of_new = timedelta(seconds=self.setup.delay_seconds)
        # A Celery broker has no dead-letter queue.
        self.celery = Queue("celery", self.visibility, 10**9, now=self.true_now, runtime=self.runtime)
        self.cluster = InMemoryCluster(self.true_now)
        self.watch_dead_until = 0.0
        """Until this time, the watch of VideoJobs shows nothing."""
        self.moved = 0
        self._moving = self.setup.moves > 0
        self._processes: dict[str, Process] = {}
        self.disturbed_until = self.setup.no_sweep_before
        self._clock_offset = 0.0
        self._clock_was_set = False
        self._own_clocks: dict[str, float] = {}
        self._locked_until = 0.0
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
        if not over or self._moving or self.store.outbox:
            return False
        return not any(queue.entries for queue in (*self.queues, self.queue.dead_letters)) and self.mirrored(self)

    @property
    def queues(self) -> tuple[Queue, ...]:
        """The queues of the programs' settings: the one that gets new messages, and the old one if there is one."""
        if not self.setup.moves:
            return (self.queue,)
        return (self.queue, self.celery) if self.moved % 2 else (self.celery,)

    @property
    def has_work_for_the_sweep(self) -> bool:
        """Whether objects are due for their deletion, or an upload has expired."""
        now = self.database_now()
        uploads = (row.upload_expires_at for row in self.store.rows.values())
        return any(deletion.due <= now for deletion in self.store.deletions) or any(at and at <= now for at in uploads)

    # -- processes

    def launch(self, name: str, main: Callable[[Process], None], *, after: float = 0.0) -> None:
        """Start a process. Whenever it ends or dies, it is started again."""
        process = self._processes[name] = Process(name, clock_offset=self._own_clocks.get(name, 0.0))

        def run() -> None:
            main(process)
            self.kill(process, 1.0)

        process.restart = lambda seconds: self.launch(name, main, after=seconds)
        self.scheduler.start(process, name, run, after=after)

    def move(self) -> None:
        """Move all programs to the next brokers, one process after another, as a rollout does."""
        while self.moved < self.setup.moves:
            self.scheduler.wait(MOVE_SECONDS)
            self.properties.seen[MOVES[self.moved]] = 1
            self.moved += 1
            for name in ("worker-1", "api", "worker-2"):
                process = self._processes[name]
                if process.queues:  # Otherwise it has not read its settings yet.
                    self._terminate(process)
                self.scheduler.wait(ROLLOUT_SECONDS)
            self.disturbed(0.0)
        self._moving = False

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

    def _call(self, process: Process, part: str, method: str, effect: Callable[[], Any], args: Any) -> Any:
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
        if part == "database" and method in ROW_WRITES:
            self._wait_for_rows()
        # Every call takes some time. So two changes never happen at the same time, as in a real database.
        self.scheduler.now += CALL_SECONDS
        outcome = self._effect(fault, effect, args)
        self._note(process, method, args, outcome, begun)
        if self.story is not None and method != "ping":
            self._tell(f"{thread.name}: {part}.{method}({brief(args)}) -> {brief(outcome) or 'nothing'}")
        unjudged = self.judged_from or part == "kubernetes" or method in UNJUDGED
        if not unjudged and (outcome or method not in UNCHANGED):
            self.check()
        if fault:
            self._after(fault, process, part)
        return outcome

    def _note(self, process: Process, method: str, args: Any, outcome: Any, begun: float) -> None:
        """Let the rules about steps know of a call that succeeded. The call began at the time `begun`."""
        if not outcome:
            return
        match method:
            case "claim" | "renew" if outcome is True or isinstance(outcome, Claimed):
                process.lease_until = begun + self.lease_seconds
                lease = outcome.lease if isinstance(outcome, Claimed) else args[0]
                self.steps.leased(lease, process.lease_until)
            case "end_expired_uploads":
                self.properties.seen[ABANDONED] = 1
            case "patch_status" if not self.steps.shown(outcome):
                self.end()
        if method in MAY_LOSE and not self._clock_was_set:
            self.steps.lost(self.store)

    def check(self, *, at_rest: bool = False) -> None:
        """Check all properties. If one is violated, the run ends here."""
        if self.setup.keyed:
            self.steps.uploaded(self.store, self.setup.uploads)
        evidence = self.evidence()
        if at_rest and self.videojobs:
            self.properties.seen[MIRRORED] = 1
            evidence = replace(evidence, videojobs=self.videojobs(self))
        if self.properties.violated(evidence, at_rest=at_rest) and not at_rest:
            self.end()

    def end(self) -> None:
        """End the run here, because a property is violated. This method does not return."""
        self.scheduler.wait(None)

    def evidence(self) -> Evidence:
        evidence = in_memory_evidence(self.store, self.objects, self.queue, receipts=self.receipts)
        if not (self.forgotten or self.setup.moves):
            return evidence
        return replace(
            evidence,
            messages=[*(evidence.messages or ()), *self.celery.bodies(), *self.forgotten],
            sent=[*evidence.sent, *(message.body for message in self.celery.sent)],
        )

    def _before(self, fault: Fault, process: Process, part: str) -> None:
        """Let a fault happen that happens before the call, or instead of it."""
        faults: dict[Kind, Callable[[], object]] = {
            Kind.WAIT: lambda: self.scheduler.wait(fault.seconds),
            Kind.FREEZE: partial(self._freeze, process, fault.seconds),
            Kind.DIE_BEFORE: partial(self.kill, process, fault.seconds),
            Kind.TERMINATE: partial(self._terminate, process),
            Kind.REFUSE: partial(self._refuse, Unavailable(part, f"The {part} does not answer.")),
            Kind.OUTAGE: lambda: self._outages.update({part: self.scheduler.now + fault.seconds}),
            Kind.REDELIVER: self.queue.redeliver,
            Kind.REVERSE: self.queue.reverse,
            Kind.MOVE: self.queue.exhaust,
            Kind.CLOCK_BACK: partial(self._set_clock, -fault.seconds),
            Kind.CLOCK_FORWARD: partial(self._set_clock, fault.seconds),
            Kind.OWN_CLOCK_BACK: partial(self._set_own_clock, process, -fault.seconds),
            Kind.OWN_CLOCK_FORWARD: partial(self._set_own_clock, process, fault.seconds),
            Kind.CONFLICT: partial(self._refuse, Outdated("outdated", "Another program has changed the VideoJob.")),
            Kind.WATCH_DIES: partial(self._stop_watch, fault.seconds),
            Kind.LOCK: partial(self._lock_rows, fault.seconds),
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
        self._clock_was_set = True

    def _set_own_clock(self, process: Process, seconds: float) -> None:
        process.clock_offset += seconds
        self._own_clocks[process.name] = process.clock_offset

    def _stop_watch(self, seconds: float) -> None:
        self.watch_dead_until = self.scheduler.now + seconds
        self.properties.seen[WATCH_DEAD] = 1

    def _lock_rows(self, seconds: float) -> None:
        self._locked_until = self.scheduler.now + seconds

    def _wait_for_rows(self) -> None:
        """Wait until no other session has the rows. As in a database, give up after LOCK_WAIT."""
        left, most = self._locked_until - self.scheduler.now, LOCK_WAIT.total_seconds()
        if left <= 0:
            return
        self.scheduler.wait(min(left, most))
        if left > most:
            self.properties.seen[LOCKED] = 1
            raise Busy("database", "Another session holds a lock that is needed.")

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
                self.kill(process, fault.seconds)
            case Kind.LOSE_ANSWER:
                raise Unavailable(part, f"The answer of the {part} was lost.")

    def kill(self, process: Process, seconds: float) -> None:
        process.restart(seconds)
        self.scheduler.die(process)

    def _tell(self, sentence: str) -> None:
        if self.story is not None:
            self.story.append(f"{self.scheduler.now:8.2f} s  {sentence}")
