"""The bucket. All methods raise `Unavailable("bucket", ...)` when the bucket does not answer."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in the bucket, with the metadata that the bucket returned."""

    key: str
    size: int
    """Size of the object in bytes."""
    etag: str
    """The object's ETag without quotes."""
    note: str = field(default="", compare=False)
    """The note that was written with the object. Only `Objects.head` reads the note. "" if there is none."""


@dataclass(frozen=True, slots=True)
class Peeked:
    """An object whose first bytes were read."""

    size: int
    """Size of the whole object in bytes."""
    version: str
    """The version id of the object, or the ETag if the bucket keeps no versions (`object_version`)."""
    head: bytes
    """The first bytes of the object."""


class ObjectWriter(Protocol):
    """A stream that writes an object in chunks. It holds only a few chunks in memory and writes nothing to disk.

    Two threads must not use the stream at the same time.
    """

    def write(self, data: bytes) -> None:
        """Append bytes to the object. Blocks while the stream's buffer is full.

        Raises:
            Unavailable: the bucket did not store a chunk of the object.
        """
        ...

    def commit(self) -> StoredObject:
        """Complete the object and make it visible."""
        ...


class Objects(Protocol):
    """One bucket, with the operations that the use cases need."""

    bucket: str

    def writing(self, key: str, *, content_type: str, note: str = "") -> AbstractContextManager[ObjectWriter]:
        """Return a context manager that yields a stream for a new object.

        If the block ends without a call of `commit`, the object is not created.
        The object keeps the `note`, which has at most 2,000 characters, all of them printable and ASCII.
        """
        ...

    def fetch(
        self,
        key: str,
        path: Path,
        *,
        on_size: Callable[[int], object] | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> StoredObject:
        """Download an object into a file.

        `on_size` is called with the object's size in bytes before the file is created.
        `on_bytes` is called with the size of each received chunk in bytes.

        Raises:
            NotFound: `object_missing` if the object does not exist.
            Withheld: `object_withheld` if the bucket denies us access to the object.
        """
        ...

    def head(self, key: str) -> StoredObject | None:
        """Return the metadata of an object, or None if the object does not exist.

        Raises:
            Withheld: `object_withheld` if the bucket denies us access to the object.
        """
        ...

    def peek(self, key: str, most: int) -> Peeked | None:
        """Read the first `most` bytes of an object, or all bytes of a shorter one. None if it does not exist.

        Raises:
            Withheld: `object_withheld` if the bucket denies us access to the object.
        """
        ...

    def listing(self, prefix: str, *, after: str | None = None, limit: int) -> Sequence[StoredObject]:
        """Return at most `limit` objects whose keys begin with `prefix`, in the order of the keys as UTF-8 bytes.

        `limit` is at most 1000. The list begins after the key `after`, if given. If fewer than `limit` objects are
        returned, no more exist.
        """
        ...

    def delete(self, keys: Collection[str]) -> Collection[str]:
        """Delete objects, and abort unfinished multipart uploads with the same keys. A missing object causes no error.

        Returns the keys of the objects that the bucket refused to delete. A log line gives their number and one reason.
        """
        ...

    def download_url(self, key: str, *, file_name: str, lifetime: timedelta) -> str:
        """Return a presigned URL that is valid for `lifetime`. A browser saves the downloaded file as `file_name`."""
        ...

    def ensure(self) -> None:
        """Create the bucket if it does not exist and the settings allow it."""
        ...

    def ping(self) -> None:
        """Check that the bucket answers and gives us access."""
        ...

    def close(self) -> None: ...
