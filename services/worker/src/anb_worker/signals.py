"""Signal handlers: SIGTERM and SIGINT stop the worker."""

import queue
import signal
import threading

from anb_core.usecases.shutdown import Shutdown


def stop_on_signals(shutdown: Shutdown) -> None:
    """Make SIGTERM and SIGINT request a shutdown. Call this function from the main thread only."""
    # A signal handler must not take a lock, because it may interrupt a thread that holds the same lock.
    # So the handler calls SimpleQueue.put, which takes no lock.
    arrived: queue.SimpleQueue[str] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: arrived.put(signal.Signals(number).name))

    def listen() -> None:
        while True:
            shutdown.request(arrived.get())

    threading.Thread(target=listen, name="signals", daemon=True).start()
