"""The flag by which other threads ask an attempt to end."""

import threading

from anb_core.domain.errors import AnbError


class Stop:
    """A request to end one attempt. Any thread may make the request. After several requests, the first error counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: AnbError | None = None

    def ask(self, error: AnbError) -> None:
        """Ask the attempt to end with `Interrupted`, `LeaseLost`, `Unavailable` or `Transient`."""
        with self._lock:
            self._error = self._error or error

    @property
    def asked(self) -> bool:
        """Whether the attempt was asked to end."""
        return self._error is not None

    def check(self) -> None:
        """Raise the error of the request, if the attempt was asked to end. The call is cheap enough for inner loops."""
        if self._error is not None:
            raise self._error
