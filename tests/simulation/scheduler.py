"""Runs the threads of several programs on one thread, as greenlets. Time passes only while all of them wait.

A thread runs until it waits. Then the thread that is ready first runs, so that a run has only one possible order.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from anb_core.ports.runtime import Event

Ready = Callable[[], float]
"""Function that returns the simulated time at which a thread may go on. Infinity if this is not known yet."""


@dataclass(eq=False, slots=True)
class Process:
    """One process of a program, from its start to its death. All its threads die together."""

    name: str
    alive: bool = True
    frozen_until: float = 0.0
    """Until this time, none of the threads runs, as after a SIGSTOP."""
    lease_until: float = 0.0
    """Until this time, the process certainly has the lease that it claimed or renewed last."""
    stopping: bool = False
    """Whether the process got a SIGTERM."""
    clock_offset: float = 0.0
    """What the clock of its machine is ahead, in seconds."""
    queues: Sequence[Any] = ()
    """The queues from which it receives, if there are several. A message in any of them ends its wait."""
    terminate: Callable[[], None] = lambda: None
    """What the process does after a SIGTERM."""
    restart: Callable[[float], None] = lambda _: None
    """Starts another process of the same program, in a number of seconds."""


@dataclass(eq=False, slots=True)
class Thread:
    """A simulated thread. Implements `anb_core.ports.runtime.Thread`."""

    name: str
    process: Process
    scheduler: "Scheduler"
    body: greenlet
    until: float
    """The time at which it goes on, if it does not become `ready` before."""
    ready: Ready | None
    turn: int
    missing: set[str] = field(default_factory=set)
    """The parts whose last call by this thread failed."""

    def is_alive(self) -> bool:
        return not self.body.dead

    def join(self, timeout: float | None = None) -> None:
        self.scheduler.wait(timeout, lambda: math.inf if self.is_alive() else 0.0)


class Scheduler:
    """Runs threads in simulated time. `now` is in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.switches = 0
        self._hub = getcurrent()
        self._threads: list[Thread] = []
        self._ended: list[Thread] = []
        """Threads of dead processes. They are kept, because Python would run their `finally` blocks otherwise."""
        self._current: Thread | None = None
        self._turns = 0
        self._closed = False

    @property
    def current(self) -> Thread:
        """The thread that runs now."""
        if self._closed or self._current is None:
            raise GreenletExit
        return self._current

    def start(self, process: Process, name: str, run: Callable[[], None], *, after: float = 0.0) -> Thread:
        """Add a thread, which begins in `after` seconds."""
        thread = Thread(name, process, self, greenlet(run, self._hub), self.now + after, None, self._next_turn())
        self._threads.append(thread)
        return thread

    def wait(self, seconds: float | None, ready: Ready | None = None) -> None:
        """Block the current thread for `seconds`, or until it is `ready`. In the meantime, other threads run."""
        thread = self.current
        thread.until = math.inf if seconds is None else self.now + seconds
        thread.ready = ready
        self._switch_away(thread)

    def die(self, process: Process) -> None:
        """Kill a process at once. If the current thread belongs to it, this method does not return."""
        process.alive = False
        self._ended += [thread for thread in self._threads if thread.process is process]
        self._threads = [thread for thread in self._threads if thread.process is not process]
        if self.current.process is process:
            self._switch_away(self.current)

    def run(self, until: float, done: Callable[[], bool]) -> bool:
        """Run all threads until `done` or the time `until`. Return whether it is done."""
        while not done():
            thread, at = self._next()
            if thread is None or at > until:
                self.now = until
                return False
            self.now, self._current = at, thread
            self.switches += 1
            thread.body.switch()
            self._current = None
            if thread.body.dead and thread in self._threads:
                self._threads.remove(thread)
        return True

    def skip(self, seconds: float) -> None:
        """Let all processes stand still for some time."""
        self.now += seconds
        for thread in self._threads:
            thread.process.frozen_until = self.now

    def close(self) -> None:
        """End all threads. They can't change anything any more, because every wait and every call of a port fails."""
        self._closed = True
        for thread in (*self._threads, *self._ended):
            if thread.body:
                thread.body.throw(GreenletExit)

    def _next(self) -> tuple[Thread | None, float]:
        """Return the thread that goes on first, and the time at which it does."""
        first, at, now = None, math.inf, self.now
        for one in self._threads:
            its = one.until
            if one.ready and its > now:
                its = min(its, one.ready())
            its = max(now, its, one.process.frozen_until)
            if its < at or (its == at and first and one.turn < first.turn):
                first, at = one, its
        return first, at

    def _switch_away(self, thread: Thread) -> None:
        thread.turn = self._next_turn()
        self._hub.switch()
        if self._closed:
            raise GreenletExit

    def _next_turn(self) -> int:
        self._turns += 1
        return self._turns


@dataclass(eq=False, slots=True)
class Flag:
    """Implements `anb_core.ports.runtime.Event`."""

    scheduler: Scheduler
    value: bool = False

    def is_set(self) -> bool:
        return self.value

    def set(self) -> None:
        self.value = True

    def clear(self) -> None:
        self.value = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self.value:
            self.scheduler.wait(timeout, lambda: 0.0 if self.value else math.inf)
        return self.value


class Runtime:
    """Implements `anb_core.ports.runtime.Runtime` for one simulated process. `errors` gets each unexpected error."""

    def __init__(self, scheduler: Scheduler, process: Process, errors: list[str]) -> None:
        self.scheduler = scheduler
        self.process = process
        self._errors = errors

    def monotonic(self) -> float:
        return self.scheduler.now

    def sleep(self, seconds: float) -> None:
        self.scheduler.wait(seconds)

    def event(self) -> Event:
        return Flag(self.scheduler)

    def start(self, name: str, run: Callable[[], None]) -> Thread:
        return self.scheduler.start(self.process, f"{self.process.name}/{name}", run)

    def on_error(self, where: str, error: Exception, **about: object) -> None:
        self._errors.append(f"{self.process.name}, {where}: {error!r} {about}")
