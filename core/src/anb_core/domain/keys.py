"""The keys of the objects in the bucket."""

UPLOADS = "uploads/"
PROCESSED = "processed/"
RESOURCES = "resources/"


def upload_key(video_id: str) -> str:
    """Return the key of an uploaded video."""
    return f"{UPLOADS}{video_id}.mp4"


def result_key(video_id: str, fence: int, attempt_id: str) -> str:
    """Return the key for the result of an attempt. Each attempt has its own key."""
    return f"{PROCESSED}{video_id}/{fence}-{attempt_id}.mp4"
