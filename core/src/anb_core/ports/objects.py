"""The bucket. All methods raise `Unavailable("bucket", ...)` when it does not answer."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What the bucket says of an object. `size` in bytes; `etag` without quotes."""

    key: str
    size: int
    etag: str


class ObjectWriter(Protocol):
    """An object being written in parts, one part at a time from one thread; bounded memory, nothing on disk."""

    def write(self, data: bytes) -> None:
        """Take some bytes; returns when there is room for more.

        Raises:
            Unavailable: a part could not be stored.
        """
        ...

    def commit(self) -> StoredObject:
        """Make the object visible, whole."""
        ...


class Objects(Protocol):
    """One bucket."""

    bucket: str

    def writing(self, key: str, *, content_type: str) -> AbstractContextManager[ObjectWriter]:
        """Write an object as a stream. Leaving the block without `commit` leaves neither object nor parts behind."""
        ...

    def fetch(self, key: str, path: Path, *, on_bytes: Callable[[int], None] | None = None) -> StoredObject:
        """Bring an object into a file; `on_bytes` gets the size of each piece.

        Raises:
            NotFound: `object_missing`.
            Withheld: `object_withheld`.
        """
        ...

    def head(self, key: str) -> StoredObject | None:
        """What is at a key.

        Raises:
            Withheld: `object_withheld`.
        """
        ...

    def delete(self, keys: Collection[str]) -> Collection[str]:
        """Delete objects, and what unfinished multipart uploads to these keys left. A missing one is no error.

        Gives back the keys that the bucket would not delete; the log has how many, and why the first.
        """
        ...

    def download_url(self, key: str, *, file_name: str, lifetime: timedelta) -> str:
        """A presigned URL, good for `lifetime`, that people can reach and that saves under `file_name`."""
        ...

    def ensure(self) -> None:
        """Create the bucket if it is missing (only where creating is allowed by the settings)."""
        ...

    def ping(self) -> None:
        """Return when the bucket answers and is ours to use."""
        ...

    def close(self) -> None: ...
