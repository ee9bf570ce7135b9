"""The render engine: a source and an edit go in, a verified file comes out. It knows no job, lease or queue."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from anb_core.domain.edit import EditSpec
from anb_core.ports.stop import Stop


@dataclass(frozen=True, slots=True)
class Resources:
    """The operator's own parts; None means the project's own. A file never changes under its path."""

    intro: Path | None = None
    outro: Path | None = None
    watermark: Path | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished file, after its verification."""

    path: Path
    size: int
    """Bytes."""
    sha256: str
    """Hexadecimal."""
    width: int
    height: int
    """Pixels."""
    duration: float
    """Seconds."""
    frames: int


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
        resources: Resources,
    ) -> Rendered:
        """Probe, render, join and verify; what is written lands in `workdir`, which the caller removes.

        `on_progress` gets a share from 0 to 1 that never falls, `on_step` the name of each step as it begins; both are
        called in this thread, and what they raise passes through. Once `stop` is asked, no child process lives on.

        Raises:
            BadInput: the source can't be rendered, and never will be.
            Transient: this try failed.
            OSError: so did this machine's disk.
            AnbError: what `stop` was asked with.
        """
        ...
