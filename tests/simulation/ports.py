"""The ports of one process: each call goes through the simulated world."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from anb_core.ports.queue import Delivery
from tests.simulation.queues import Queue
from tests.simulation.scheduler import Process
from tests.support.port import CONTEXTS, PortAround

if TYPE_CHECKING:
    from tests.simulation.world import World


class Port(PortAround):
    """A port of one process. Each method call goes through `World.call`."""

    def __init__(self, world: "World", process: Process, part: str, target: object) -> None:
        super().__init__(part, target)
        self._world = world
        self._process = process

    def around(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        if name == "receive":
            return self._receive
        return partial(self._context if name in CONTEXTS else self._call, name, method)

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

        def ready() -> float:
            visible = [self._world.seconds(one.next_visible()) for one in process.queues or (queue,)]
            return min(*visible, until if process.stopping else math.inf)

        if wait:
            scheduler.wait(None, ready)
        delivery: Delivery | None = self._world.call(
            process, self._part, "receive", partial(queue.receive, wait=timedelta(0))
        )
        return delivery
