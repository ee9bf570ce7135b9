"""A request to end an attempt. Another thread makes the request."""

import threading

from anb_core.domain.errors import AnbError


class Stop:
    """Lets any thread request the end of one attempt. Only the first request has an effect."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: AnbError | None = None

    def ask(self, error: AnbError) -> None:
        """Request that the attempt ends with `error`: `Interrupted`, `LeaseLost`, `Unavailable` or `Transient`."""
        with self._lock:
            self._error = self._error or error

    @property
    def asked(self) -> bool:
        """Whether a thread has requested that the attempt ends."""
        return self._error is not None

    def check(self) -> None:
        """Raise the error of the first request if there was a request. This method is fast enough for inner loops."""
        if self._error is not None:
            raise self._error
