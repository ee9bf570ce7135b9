"""Room on this machine's disk."""

from pathlib import Path
from typing import Protocol


class Scratch(Protocol):
    """Room on this machine's disk, a folder an attempt."""

    def make(self, attempt_id: str, source_size: int) -> Path:
        """A new folder with room for a source of so many bytes and what is made of it.

        Raises:
            Unavailable: `scratch_unavailable`, there is too little room.
        """
        ...

    def clear(self, attempt_id: str) -> None:
        """Remove the folder, if there is one. Never raises."""
        ...
