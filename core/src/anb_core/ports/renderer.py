"""The render engine, which makes a verified file from an upload and an edit.

The render engine does not depend on jobs, leases or queues.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from anb_core.domain.edit import EditSpec
from anb_core.ports.stop import Stop


@dataclass(frozen=True, slots=True)
class Resources:
    """The deployment's own files. Each replaces a card or the watermark of the project. None means the project's own.

    The file at a path never changes. A new version of a file has a new path.
    """

    intro: Path | None = None
    outro: Path | None = None
    watermark: Path | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished video file that was verified."""

    path: Path
    size: int
    """Size of the file in bytes."""
    sha256: str
    """Hexadecimal SHA-256 of the file."""
    width: int
    height: int
    """Width and height of the picture in pixels."""
    duration: float
    """Duration of the video in seconds."""
    frames: int
    """Number of video frames."""


class Renderer(Protocol):
    """Renders videos, one at a time."""

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
        """Make a finished video. All files are written to the folder `workdir`, which the caller removes.

        `on_progress` is called with the progress, from 0 to 1, which never falls.
        `on_step` is called with the name of each step when the step begins.
        `on_progress` and `on_step` are called in the calling thread, and may raise an error.
        After a call of `stop.ask`, all child processes are killed.

        Raises:
            BadInput: the source can't be rendered, not even in another attempt.
            Transient: this attempt failed, but another attempt may succeed.
            OSError: the disk of this machine failed or is full.
            AnbError: the error that was given to `stop.ask`.
        """
        ...
