"""The render engine, which makes a verified file from an upload and an edit. It uses no job, lease or queue."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from anb_core.domain.edit import EditSpec
from anb_core.ports.stop import Stop


@dataclass(frozen=True, slots=True)
class Resources:
    """Files of an operator that replace the project's own files. A field is None if its file is not replaced.

    The content of a file never changes. A new version has a new path.
    """

    intro: Path | None = None
    outro: Path | None = None
    watermark: Path | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished file that was verified."""

    path: Path
    size: int
    """Bytes."""
    sha256: str
    """Hexadecimal SHA-256 of the file."""
    width: int
    height: int
    """Pixels."""
    duration: float
    """Seconds."""
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
        """Probe, render, join and verify. All files are written to `workdir`, which the caller removes.

        `on_progress` gets the progress from 0 to 1. The progress never falls.
        `on_step` gets the name of each step when the step begins.
        Both functions are called in the calling thread, and may raise an error.
        After `stop` was asked to end the attempt, all child processes end.

        Raises:
            BadInput: the source can't be rendered, not even in another attempt.
            Transient: this attempt failed, but another attempt may succeed.
            OSError: the disk of this machine failed or is full.
            AnbError: the error with which `stop` was asked to end the attempt.
        """
        ...
