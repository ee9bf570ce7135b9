"""Which objects of other programs become videos, and which ids these videos get. Adopted objects are never deleted."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID, uuid5

from anb_core.domain.codes import Code
from anb_core.domain.errors import Refused, TooLarge
from anb_core.domain.keys import PROCESSED, RESOURCES, UPLOADS

OURS = (UPLOADS, PROCESSED, RESOURCES)
"""Prefixes of the keys of our own objects. Under `uploads/`, a bucket may also have objects of an older deployment."""

_IDS = UUID("cf5486b5-679c-4602-bd8e-1a14df05dcdd")
"""The UUID namespace of the ids of adopted videos. Never change it: the same object must lead to the same video."""


@dataclass(frozen=True, slots=True)
class KnownSource:
    """An object that is or was the source of a video."""

    key: str
    video_id: str
    size: int | None
    """Size of the object in bytes when it was submitted. None if its content does not matter, because it is ours."""
    deleted: bool
    """Whether the video was deleted."""


@dataclass(frozen=True, slots=True)
class NotTaken:
    """An object that does not become a video, and the error that says why."""

    key: str
    code: Code
    message: str


def object_version(version_id: str | None, etag: str | None) -> str:
    """Return the version id of an object, or the ETag without quotes if the bucket keeps no versions. "" if neither."""
    # A version id "null" identifies nothing: every new object has it while the bucket's versioning is suspended.
    version = next((version for version in (version_id, etag) if version not in {None, "", "null"}), None) or ""
    return version.strip('"')


def adopted_id(bucket: str, key: str, version: str) -> str:
    """Return the id of the video that is made of an object. `version` comes from `object_version`."""
    return str(uuid5(_IDS, json.dumps([bucket, key, version])))


def stands_for_folder(key: str, *, empty: bool) -> bool:
    """Whether an object has no content. Some programs create such objects for folders."""
    return empty or key.endswith("/")


def why_not_taken(key: str, size: int, known: Iterable[KnownSource]) -> NotTaken | None:
    """Decide by a bucket's list whether an object can become a video. None if its content decides.

    `size` is the size in bytes, and `known` has the videos of the object. An object with another size than theirs was
    overwritten since then, and becomes another video, as it does if S3 reports it.
    """
    if stands_for_folder(key, empty=size == 0):
        return NotTaken(key, "file_empty", "It is empty or stands for a folder.")
    if key.startswith((PROCESSED, RESOURCES)):
        return NotTaken(key, "key_not_allowed", "It is a result or a resource of ANB Video.")
    same = [one for one in known if one.size in {None, size}]
    # A video that exists says more than one that was deleted.
    for one in sorted(same, key=lambda one: one.deleted):
        if one.deleted:
            return NotTaken(key, "video_not_found", f"Its video {one.video_id} was deleted.")
        return NotTaken(key, "source_taken", f"It is the source of video {one.video_id}.")
    return None


def advised(refusal: Refused) -> str:
    """Return why an object can't be adopted, and which setting would allow it."""
    advice = " To allow more, raise ANB_MAX_UPLOAD_BYTES." if isinstance(refusal, TooLarge) else ""
    return f"{refusal.message}{advice}"
