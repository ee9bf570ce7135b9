"""Temporary files of attempts on the worker's disk."""

from pathlib import Path
from typing import Protocol


class Scratch(Protocol):
    """The worker's scratch disk, which has one folder for each attempt."""

    def folder(self, attempt_id: str) -> Path:
        """Return the path of the folder of an attempt."""
        ...

    def make(self, attempt_id: str, source_size: int) -> Path:
        """Create the folder of an attempt, if the disk has room for the source file and the render.

        `source_size` is the size of the source file in bytes.

        Raises:
            Unavailable: `scratch_unavailable` if the disk has too little room.
        """
        ...

    def clear(self, attempt_id: str) -> None:
        """Remove the folder of an attempt, if the folder exists. Never raises an error."""
        ...
