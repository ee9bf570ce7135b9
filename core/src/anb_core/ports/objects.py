"""The bucket. All methods raise `Unavailable("bucket", ...)` when the bucket does not answer."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object with the metadata that the bucket returns for it."""

    key: str
    size: int
    """Bytes."""
    etag: str
    """The ETag without quotes."""


class ObjectWriter(Protocol):
    """A stream that writes an object piece by piece. Memory use is bounded, and nothing is written to disk.

    Only one thread may use the stream.
    """

    def write(self, data: bytes) -> None:
        """Append bytes. Blocks while the buffer is full.

        Raises:
            Unavailable: the bucket did not store a piece of the object.
        """
        ...

    def commit(self) -> StoredObject:
        """Complete the object and make it visible."""
        ...


class Objects(Protocol):
    """One bucket."""

    bucket: str

    def writing(self, key: str, *, content_type: str) -> AbstractContextManager[ObjectWriter]:
        """Write an object as a stream. If the block ends without a `commit`, everything written is discarded."""
        ...

    def fetch(self, key: str, path: Path, *, on_bytes: Callable[[int], None] | None = None) -> StoredObject:
        """Download an object into a file. `on_bytes` gets the size of each chunk in bytes.

        Raises:
            NotFound: `object_missing`.
            Withheld: `object_withheld`.
        """
        ...

    def head(self, key: str) -> StoredObject | None:
        """Return the metadata of the object with this key, or None if the object does not exist.

        Raises:
            Withheld: `object_withheld`.
        """
        ...

    def delete(self, keys: Collection[str]) -> Collection[str]:
        """Delete objects, and unfinished multipart uploads with the same keys. A missing object is no error.

        Returns the keys that the bucket refused to delete. The log has the number of these keys and the first reason.
        """
        ...

    def download_url(self, key: str, *, file_name: str, lifetime: timedelta) -> str:
        """Return a presigned URL, valid for `lifetime`. Browsers can use the URL, and save the file as `file_name`."""
        ...

    def ensure(self) -> None:
        """Create the bucket if it does not exist and the settings allow it."""
        ...

    def ping(self) -> None:
        """Check that the bucket answers and gives us access."""
        ...

    def close(self) -> None: ...
