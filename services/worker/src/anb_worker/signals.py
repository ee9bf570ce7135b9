"""Signal handlers: SIGTERM and SIGINT stop the worker."""

import queue
import signal
import threading

from anb_core.usecases.shutdown import Shutdown


def stop_on_signals(shutdown: Shutdown) -> None:
    """Install signal handlers for SIGTERM and SIGINT, which request a stop. Call this from the main thread only."""
    # A signal handler may interrupt a thread that holds a lock, so the handler must not take a lock.
    # SimpleQueue.put takes no lock.
    arrived: queue.SimpleQueue[str] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: arrived.put(signal.Signals(number).name))

    def listen() -> None:
        while True:
            shutdown.request(arrived.get())

    threading.Thread(target=listen, name="signals", daemon=True).start()
