"""A cache on disk for the operator's own intro, outro and watermark. Changed files are fetched again."""

import hashlib
from pathlib import Path

import structlog

from anb_core.domain.errors import NotFound
from anb_core.domain.keys import RESOURCES
from anb_core.ports.objects import Objects
from anb_core.ports.renderer import Resources

INTRO, OUTRO, WATERMARK = "intro.mp4", "outro.mp4", "watermark.png"

_log = structlog.get_logger(__name__)


class ResourceCache:
    """Checks the bucket before each job, and fetches only files that changed. No other process may use `folder`."""

    def __init__(self, objects: Objects, folder: Path) -> None:
        self._objects = objects
        self._folder = folder

    def load(self) -> Resources:
        """Return the paths of the operator's current files. The path of a file that is not in the bucket is None.

        Raises:
            Unavailable: the bucket does not respond.
            Withheld: the bucket denies access to a file that exists.
        """
        return Resources(intro=self._current(INTRO), outro=self._current(OUTRO), watermark=self._current(WATERMARK))

    def _current(self, name: str) -> Path | None:
        stored = self._objects.head(RESOURCES + name)
        if stored is None:
            self._forget(name)
            return None
        path = self._path(name, stored.etag)
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
        # An ETag may contain any characters. A digest of the ETag is always a valid file name.
        return self._folder / f"{hashlib.sha256(etag.encode()).hexdigest()[:16]}-{name}"
