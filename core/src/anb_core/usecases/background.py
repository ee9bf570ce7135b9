"""Runs loops such as the relay and the sweep in the background of a program, each in a thread of its own."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from anb_core.ports.runtime import Event, Runtime, join_all


@contextmanager
def background(
    runtime: Runtime, loops: Mapping[str, Callable[[Event], None]], *, wake: Callable[[], None]
) -> Iterator[None]:
    """Run the loops in threads while the block runs. `loops` maps the name of each thread to its loop.

    Each loop gets an event, and must return soon after the event is set. The end of the block sets the event.
    Then `wake` is called, for loops that do not wait for the event. A loop may finish its current call.
    A loop that needs longer than LONGEST_CALL is left behind, because its thread does not keep the program alive.
    """
    stop = runtime.event()
    threads = [runtime.start(name, partial(run, stop)) for name, run in loops.items()]
    try:
        yield
    finally:
        stop.set()
        wake()
        join_all(runtime, threads)
