"""The keys of the objects in the bucket."""

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


def utf8_bytes(text: str) -> int:
    """Return the length of a text in UTF-8 bytes. 0 if UTF-8 can't encode the text, because it has a lone surrogate."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return 0
