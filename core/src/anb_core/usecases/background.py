"""Runs loops such as the relay and the sweep in background threads of a program."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from anb_core.ports.runtime import Event, Runtime, join_all


@contextmanager
def background(
    runtime: Runtime, loops: Mapping[str, Callable[[Event], None]], *, wake: Callable[[], None]
) -> Iterator[None]:
    """Run loops in threads while the block runs. `loops` maps the name of each thread to its loop.

    Each loop gets the same stop event, and must return soon after the event is set.
    At the end of the block, the event is set, and then `wake` is called. If a loop sleeps until something other than
    the stop event happens, `wake` must end this sleep.
    The threads then get LONGEST_CALL to end. A thread that needs more time does not keep the program alive.
    """
    stop = runtime.event()
    threads = [runtime.start(name, partial(run, stop)) for name, run in loops.items()]
    try:
        yield
    finally:
        stop.set()
        wake()
        join_all(runtime, threads)
