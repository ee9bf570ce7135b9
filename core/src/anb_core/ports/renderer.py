"""The render engine: a source and an edit go in, a verified file comes out. It knows nothing of jobs, leases or buckets."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import AnbError


class Stop:
    """Asks one attempt to end. The first reason counts; asking is safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = threading.Event()
        self._reason: AnbError | None = None

    def ask(self, reason: AnbError) -> None:
        """End the attempt with this error: `Interrupted`, `LeaseLost`, `Unavailable` or `Transient`."""
        with self._lock:
            if self._reason is None:
                self._reason = reason
                self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether the attempt has to end."""
        return self._asked.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait until asked, at most so many seconds; True when asked."""
        return self._asked.wait(seconds)

    def check(self) -> None:
        """Raise the reason once asked, else return at once."""
        with self._lock:
            if self._reason is not None:
                raise self._reason


@dataclass(frozen=True, slots=True)
class Resources:
    """The operator's own parts as local files; None means the project's own. A file never changes under its path."""

    intro: Path | None = None
    outro: Path | None = None
    watermark: Path | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished file and what was verified of it. `duration` in seconds."""

    path: Path
    width: int
    height: int
    duration: float
    frames: int


class Renderer(Protocol):
    """Makes the finished video. One render at a time."""

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
        resources: Resources,
    ) -> Rendered:
        """Probe, render, join and verify, with all files inside `workdir`, which the caller removes.

        `on_progress` gets 0 to 1, at least once a second while frames are made; `on_step` the name of each step as it begins.
        Both are cheap and never raise. Once `stop` is asked, every child process is dead within a second and its reason is raised.

        Raises:
            BadInput: the source can't be rendered, and never will be.
            Transient: this try failed.
            AnbError: whatever `stop` was asked with.
        """
        ...
