"""How one attempt is asked to end."""

import threading

from anb_core.domain.errors import AnbError


class Stop:
    """Asks one attempt to end, from any thread; the first error it was asked with is the one the attempt ends with."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: AnbError | None = None

    def ask(self, error: AnbError) -> None:
        """End the attempt with `Interrupted`, `LeaseLost`, `Unavailable` or `Transient`."""
        with self._lock:
            self._error = self._error or error

    @property
    def asked(self) -> bool:
        """Whether the attempt has to end."""
        return self._error is not None

    def check(self) -> None:
        """Raise what the attempt was asked to end with, if it was; cheap enough for every piece of work."""
        if self._error is not None:
            raise self._error
