"""The in-memory bucket, for tests."""

import hashlib
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from anb_core.domain.errors import AnbError, NotFound
from anb_core.ports.objects import ObjectWriter, Peeked, StoredObject


class InMemoryObjects:
    """Implements `anb_core.ports.objects.Objects`. `contents` maps keys to the objects' bytes.

    If `fault` is set to an error, every method raises the error, as if the bucket were unavailable.
    """

    def __init__(self, bucket: str = "anb-videos") -> None:
        self.bucket = bucket
        self.contents: dict[str, bytes] = {}
        self.content_types: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self.unfinished: set[str] = set()
        """Keys of the objects that are being written."""
        self.fault: AnbError | None = None
        self._lock = threading.Lock()

    @contextmanager
    def writing(self, key: str, *, content_type: str, note: str = "") -> Iterator[ObjectWriter]:
        self.ping()
        self.unfinished.add(key)
        try:
            yield _Writer(self, key, content_type, note)
        finally:
            self.unfinished.discard(key)

    def put(
        self, key: str, data: bytes, *, content_type: str = "application/octet-stream", note: str = ""
    ) -> StoredObject:
        """Store a complete object."""
        self.ping()
        with self._lock:
            self.contents[key] = data
            self.content_types[key] = content_type
            self.notes[key] = note
            return self._stored(key)

    def fetch(
        self,
        key: str,
        path: Path,
        *,
        on_size: Callable[[int], object] | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> StoredObject:
        stored = self.head(key)
        if stored is None:
            raise NotFound("object_missing", f"There is no object {key} in bucket {self.bucket}.")
        if on_size:
            on_size(stored.size)
        # Call `on_bytes` first. If it raises an error, no file is created, as in the S3 adapter.
        if on_bytes and stored.size:
            on_bytes(stored.size)
        path.write_bytes(self.contents[key])
        return stored

    def head(self, key: str) -> StoredObject | None:
        self.ping()
        with self._lock:
            return self._stored(key) if key in self.contents else None

    def peek(self, key: str, most: int) -> Peeked | None:
        stored = self.head(key)
        return None if stored is None else Peeked(stored.size, stored.etag, self.contents[key][:most])

    def listing(self, prefix: str, *, after: str | None = None, limit: int) -> Sequence[StoredObject]:
        self.ping()
        with self._lock:
            found = [(key.encode(), key) for key in self.contents if key.startswith(prefix)]
            first = (after or "").encode()
            keys = [key for raw, key in sorted(found) if raw > first]
            return [replace(self._stored(key), note="") for key in keys[:limit]]

    def delete(self, keys: Collection[str]) -> frozenset[str]:
        self.ping()
        with self._lock:
            for key in keys:
                self.contents.pop(key, None)
                self.content_types.pop(key, None)
                self.notes.pop(key, None)
                self.unfinished.discard(key)
        return frozenset()

    def download_url(self, key: str, *, file_name: str, lifetime: timedelta) -> str:
        expires = int(lifetime.total_seconds())
        return f"https://{self.bucket}.invalid/{quote(key)}?file_name={quote(file_name, safe='')}&expires={expires}"

    def ensure(self) -> None:
        self.ping()

    def ping(self) -> None:
        if self.fault:
            raise self.fault

    def close(self) -> None:
        """Do nothing, because no connection is open."""

    def _stored(self, key: str) -> StoredObject:
        data = self.contents[key]
        return StoredObject(key, len(data), hashlib.md5(data, usedforsecurity=False).hexdigest(), self.notes[key])


class _Writer:
    def __init__(self, objects: InMemoryObjects, key: str, content_type: str, note: str) -> None:
        self._objects = objects
        self._key = key
        self._content_type = content_type
        self._note = note
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        self._objects.ping()
        self._data += data

    def commit(self) -> StoredObject:
        return self._objects.put(self._key, bytes(self._data), content_type=self._content_type, note=self._note)
