"""Wraps the adapters of a program, so that each call of a port is a step at which a fault can happen."""

import inspect
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import time_machine

from anb_core import bootstrap
from anb_core.domain import retry
from anb_core.domain.errors import Unavailable
from anb_core.ports.queue import Outgoing
from anb_core.ports.stop import Stop
from tests.support.port import CONTEXTS, PortAround

PARTS: Mapping[str, str] = {
    "open_store": "store",
    "open_bucket": "bucket",
    "open_queue": "queue",
    "open_dead_letter_queue": "dead letters",
    "open_alerts": "alerts",
}
"""The functions of `anb_core.bootstrap` whose results are wrapped, and the names of these parts in the steps."""

LOOPS = ("relay", "sweep")
"""Names of the threads that are components of their own, in whichever program they run."""


@dataclass(slots=True)
class _State:
    """What this process knows about its faults."""

    program: str = "launcher"
    die_at: frozenset[str] = frozenset()
    kill_child_at: frozenset[str] = frozenset()
    told: str = ""
    """The file that gets the name of a step at which this process or its child dies, or at which it stops."""
    freeze_at: frozenset[str] = frozenset()
    """Steps at which this process stops itself with SIGSTOP, once each."""
    seen: str = ""
    """The file that gets the name of each step of this process. Empty for no file."""
    twice: bool = False
    """Whether each message is sent twice."""
    clock: float = 0.0
    """What the clock of this process is ahead, in seconds."""
    refused: frozenset[str] = frozenset()
    """Calls that fail once, before they have an effect."""
    slow: float = 0.0
    """Seconds by which the main step of each render takes longer."""


class _Thread(threading.local):
    """What this thread does."""

    engine_step = ""


_state = _State()
_thread = _Thread()
_seen: set[str] = set()


def begin(program: str, faults: Mapping[str, Any]) -> None:
    """Let the faults happen in this process from now on. `faults` are the fields of `_State`."""
    _state.program = program
    for name, value in faults.items():
        setattr(_state, name, frozenset(value) if isinstance(value, list) else value)
    if _state.clock:
        time_machine.travel(time.time() + _state.clock).start()


def step(part: str, method: str, moment: str) -> None:
    """Kill this process if it has to die at this step."""
    thread = threading.current_thread().name
    name = f"{thread if thread in LOOPS else _state.program}: {moment} {part}.{method}"
    if _state.seen and name not in _seen:
        _seen.add(name)
        _record(name, _state.seen)
    if name in _state.freeze_at:
        _record(name, _state.told)
        _state.freeze_at -= {name}
        os.kill(os.getpid(), signal.SIGSTOP)
    if name in _state.die_at:
        _record(name, _state.told)
        os.kill(os.getpid(), signal.SIGKILL)


def _record(name: str, file_name: str) -> None:
    with Path(file_name).open("a", encoding="utf-8") as file:
        file.write(f"{name}\n")


class Port(PortAround):
    """Passes all calls on to a port. Each call is a step before and after its effect."""

    def around(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        if name in CONTEXTS:
            return partial(self._context, name, method)
        if inspect.iscoroutinefunction(method):
            return partial(self._call_async, name, method)
        if (self._part, name) == ("queue", "send"):
            method = partial(_sent, method)
        return partial(self._call, name, method)

    def _call(self, name: str, method: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        step(self._part, name, "before")
        if (call := f"{self._part}.{name}") in _state.refused:
            _state.refused -= {call}
            raise Unavailable(self._part, f"The call {call} is refused once.")
        answer = method(*args, **options)
        step(self._part, name, "after")
        return answer

    async def _call_async(self, name: str, method: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        step(self._part, name, "before")
        answer = await method(*args, **options)
        step(self._part, name, "after")
        return answer

    @contextmanager
    def _context(self, name: str, method: Callable[..., Any], /, *args: Any, **options: Any) -> Iterator[Any]:
        step(self._part, name, "before")
        context: AbstractContextManager[Any] = method(*args, **options)
        with context as value:
            step(self._part, name, "after")
            yield Port("writer", value) if name == "writing" else value
            step(self._part, f"end of {name}", "before")
        step(self._part, f"end of {name}", "after")


def _sent(
    send: Callable[[Sequence[Outgoing]], Sequence[str | None]], batch: Sequence[Outgoing]
) -> Sequence[str | None]:
    if _state.twice:
        send(batch)
    return send(batch)


def wrap_adapters() -> None:
    """Wrap all that the programs open. Call this before the programs are imported."""
    for function, part in PARTS.items():
        setattr(bootstrap, function, partial(_opened, getattr(bootstrap, function), part))
    _wrap_engine()
    _wrap_kube_client()
    # No setting shortens these pauses of returned messages. They are shortened in the ratio of the site's leases.
    retry.SHORTEST_PAUSE, retry.LONGEST_PAUSE = timedelta(seconds=9), timedelta(seconds=45)


def _opened(make: Callable[..., object], part: str, /, *args: Any, **options: Any) -> Port | None:
    made = make(*args, **options)
    return None if made is None else Port(part, made)


def _wrap_engine() -> None:
    from anb_worker.render import engine, sandbox  # noqa: PLC0415 - the tests import PARTS without the worker

    class Engine(engine.RenderEngine):
        def warm(self, stop: Stop) -> None:
            """Compose no cards, which takes long. Most renders of a site need none."""

        def render(self, *args: Any, on_step: Callable[[str], None], **options: Any) -> Any:
            def begun(name: str) -> None:
                _thread.engine_step = name
                step("engine", name, "at")
                if name == "main":
                    time.sleep(_state.slow)
                on_step(name)

            try:
                return super().render(*args, on_step=begun, **options)
            finally:
                _thread.engine_step = ""

    engine.RenderEngine = Engine  # type: ignore[misc]
    # A second thread does this work beside the step of the first thread.
    for name, method in (("audio", "_make_sound"), ("title", "_lay_title")):
        setattr(engine._Render, method, _at_engine_step(name, getattr(engine._Render, method)))  # noqa: SLF001
    started = sandbox._started  # noqa: SLF001 - the product has no hooks for tests

    @contextmanager
    def started_and_killed(launcher: Sequence[str], workdir: Path) -> Iterator[Any]:
        with started(launcher, workdir) as child:
            name = f"child: at engine.{_thread.engine_step}"
            if name in _state.kill_child_at:
                _state.kill_child_at -= {name}
                _record(name, _state.told)
                os.killpg(child.pid, signal.SIGKILL)
            yield child

    sandbox._started = started_and_killed  # noqa: SLF001


def _at_engine_step(name: str, work: Callable[..., None]) -> Callable[..., None]:
    def named(*args: Any) -> None:
        _thread.engine_step = name
        work(*args)

    return named


def _wrap_kube_client() -> None:
    from anb_operator import client  # noqa: PLC0415 - see _wrap_engine

    made = client.KubeClient
    client.KubeClient = lambda *args, **options: Port("kube", made(*args, **options))  # type: ignore[assignment, misc]
