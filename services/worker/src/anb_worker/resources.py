"""A cache on disk for the deployment's own intro, outro and watermark, which are objects in the bucket."""

import hashlib
from pathlib import Path

import structlog

from anb_core.domain.errors import NotFound
from anb_core.domain.keys import RESOURCES
from anb_core.ports.objects import Objects
from anb_core.ports.renderer import Resources

PAGE = 1000
"""Number of objects in one request for a list."""

INTRO, OUTRO, WATERMARK = "intro.mp4", "outro.mp4", "watermark.png"

_log = structlog.get_logger(__name__)


class ResourceCache:
    """Downloads the deployment's own files into `folder`. Only one process may use `folder`."""

    def __init__(self, objects: Objects, folder: Path) -> None:
        self._objects = objects
        self._folder = folder

    def load(self) -> Resources:
        """Return the paths of the deployment's current files. The path of a file that is not in the bucket is None.

        Each call checks the bucket. Only files that changed are downloaded again.

        Raises:
            Unavailable: the bucket does not answer.
            Withheld: the bucket denies access to a file that exists.
        """
        etags = self._etags()
        intro, outro, watermark = (
            self._current(name, etags.get(RESOURCES + name)) for name in (INTRO, OUTRO, WATERMARK)
        )
        return Resources(intro, outro, watermark)

    def _etags(self) -> dict[str, str]:
        """Return the ETags of all objects under RESOURCES, by their keys. Usually this takes only one request."""
        etags: dict[str, str] = {}
        after = None
        while True:
            page = self._objects.listing(RESOURCES, after=after, limit=PAGE)
            etags |= {stored.key: stored.etag for stored in page}
            if len(page) < PAGE:
                return etags
            after = page[-1].key

    def _current(self, name: str, etag: str | None) -> Path | None:
        if etag is None:
            self._forget(name)
            return None
        path = self._path(name, etag)
        if path.exists():
            return path
        return self._fetch(name)

    def _fetch(self, name: str) -> Path | None:
        self._folder.mkdir(exist_ok=True)
        arriving = self._folder / f"arriving-{name}"
        try:
            stored = self._objects.fetch(RESOURCES + name, arriving)
        except NotFound:
            return None
        self._forget(name)
        path = self._path(name, stored.etag)
        arriving.replace(path)
        _log.info("the operator's own part is used from now on", key=RESOURCES + name, etag=stored.etag)
        return path

    def _forget(self, name: str) -> None:
        for old in self._folder.glob(f"*-{name}"):
            if not old.name.startswith("arriving-"):
                old.unlink()

    def _path(self, name: str, etag: str) -> Path:
        # Use a digest of the ETag, because an ETag may contain characters that a file name must not contain.
        return self._folder / f"{hashlib.sha256(etag.encode()).hexdigest()[:16]}-{name}"
