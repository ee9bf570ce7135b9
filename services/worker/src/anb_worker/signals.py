"""SIGTERM and SIGINT ask the worker to stop."""

import queue
import signal
import threading

from anb_core.usecases.shutdown import Shutdown


def stop_on_signals(shutdown: Shutdown) -> None:
    """From now on each SIGTERM or SIGINT is a request to stop. Main thread only."""
    # A handler may interrupt its own thread while that thread holds a lock, so it takes none: SimpleQueue has none.
    arrived: queue.SimpleQueue[str] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: arrived.put(signal.Signals(number).name))

    def listen() -> None:
        while True:
            shutdown.request(arrived.get())

    threading.Thread(target=listen, name="signals", daemon=True).start()
