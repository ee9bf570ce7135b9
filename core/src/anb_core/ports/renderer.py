"""The render engine: a source and an edit go in, a verified file comes out. It knows no job, lease or queue."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import AnbError


class Stop:
    """Ends one attempt, from any thread; the first error that it is set to is the one the attempt ends with."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: AnbError | None = None
        self._forward: Callable[[AnbError], None] | None = None

    def set(self, error: AnbError) -> None:
        """End the attempt with `Interrupted`, `LeaseLost`, `Unavailable` or `Transient`."""
        with self._lock:
            if self._error is None:
                self._error = error
                if self._forward is not None:
                    self._forward(error)

    def is_set(self) -> bool:
        """Whether the attempt has to end."""
        return self._error is not None

    def check(self) -> None:
        """Raise what this was set to, if it was."""
        if self._error is not None:
            raise self._error

    @contextmanager
    def forwarded(self, to: Callable[[AnbError], None]) -> Iterator[None]:
        """While the block runs, `to` gets the error too, at once if it is set already. `to` must not block."""
        with self._lock:
            self._forward = to
            if self._error is not None:
                to(self._error)
        try:
            yield
        finally:
            with self._lock:
                self._forward = None


class Rendered(Protocol):
    """A finished file and what was verified of it. `duration` in seconds, `size` in bytes, `sha256` hexadecimal."""

    @property
    def path(self) -> Path: ...

    @property
    def size(self) -> int: ...

    @property
    def sha256(self) -> str: ...

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def duration(self) -> float: ...

    @property
    def frames(self) -> int: ...


class Renderer(Protocol):
    """Makes the finished video, one at a time."""

    def render(
        self,
        source: Path,
        edit: EditSpec,
        title: str,
        workdir: Path,
        *,
        on_progress: Callable[[float], None],
        on_step: Callable[[str], None],
        stop: Stop,
    ) -> Rendered:
        """Probe, render, join and verify; what is written lands in `workdir`, which the caller removes.

        `on_progress` gets a share from 0 to 1 that never falls, `on_step` the name of each step as it begins; both are
        called in this thread, and what they raise passes through. Once `stop` is set, no child process lives on.

        Raises:
            BadInput: the source can't be rendered, and never will be.
            Transient: this try failed.
            Unavailable: the bucket did not give the operator's own parts.
            AnbError: what `stop` was set to.
        """
        ...
