"""Runs work of a render in a second thread, beside the step that takes most of the time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from anb_core.domain.errors import Interrupted
from anb_core.ports.stop import Stop

Work = Callable[[Stop], None]
"""Work that ends with the error of a `Stop` soon after a stop request."""


class Beside(AbstractContextManager["Beside"]):
    """Runs work in one other thread, in the order of `start`. So a render has at most two child processes at a time.

    At the end of the `with` block, work that has not ended is stopped, and the thread has ended.
    If `alone` is True, there is no processor or no memory for a second child.
    Then work is not started early. The function that `start` returns does the work.
    """

    def __init__(self, stop: Stop, *, alone: bool) -> None:
        self._stop = _Either(stop)
        self._pool = None if alone else ThreadPoolExecutor(max_workers=1, thread_name_prefix="beside")

    def start(self, work: Work) -> Callable[[], None]:
        """Start `work`. Returns a function that waits until `work` has ended, and raises its error."""
        if self._pool is None:
            return lambda: work(self._stop)
        return self._pool.submit(work, self._stop).result

    def __exit__(self, *_: object) -> None:
        self._stop.ask(Interrupted())
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class _Either(Stop):
    """A stop request of its own, or that of another `Stop`."""

    def __init__(self, other: Stop) -> None:
        super().__init__()
        self._other = other

    @property
    def asked(self) -> bool:
        return self._other.asked or super().asked

    def check(self) -> None:
        self._other.check()
        super().check()
