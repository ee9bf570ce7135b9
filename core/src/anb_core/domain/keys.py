"""The keys of the objects in the bucket."""

import re
from typing import NamedTuple

UPLOADS = "uploads/"
PROCESSED = "processed/"
RESOURCES = "resources/"

MAX_KEY_BYTES = 1024
"""Maximum length of a key in UTF-8 bytes. No bucket has an object with a longer key."""


def upload_key(video_id: str) -> str:
    """Return the key of an uploaded video."""
    return f"{UPLOADS}{video_id}.mp4"


def result_key(video_id: str, fence: int, attempt_id: str) -> str:
    """Return the key for the result of an attempt. Each attempt has its own key."""
    return f"{PROCESSED}{video_id}/{fence}-{attempt_id}.mp4"


class ResultKey(NamedTuple):
    """The parts of the key of a result."""

    video_id: str
    fence: int
    attempt_id: str


def parse_result_key(key: str) -> ResultKey | None:
    """Return the parts of a key that `result_key` made. None for any other key."""
    parts = re.fullmatch(rf"{PROCESSED}([^/]+)/([0-9]{{1,9}})-([^/]+)\.mp4", key)
    return parts and ResultKey(parts[1], int(parts[2]), parts[3])


def parse_upload_key(key: str) -> str | None:
    """Return the id of the video from a key that `upload_key` made. None for any other key."""
    parts = re.fullmatch(rf"{UPLOADS}([^/]+)\.mp4", key)
    return parts and parts[1]


def utf8_bytes(text: str) -> int:
    """Return the length of a text in UTF-8 bytes. 0 if UTF-8 can't encode the text, because it has a lone surrogate."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return 0
