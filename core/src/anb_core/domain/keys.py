"""Object keys: who writes where in the bucket."""

UPLOADS = "uploads/"
PROCESSED = "processed/"
RESOURCES = "resources/"


def upload_key(video_id: str) -> str:
    """Where an upload is kept."""
    return f"{UPLOADS}{video_id}.mp4"


def result_key(video_id: str, fence: int, attempt_id: str) -> str:
    """Where one attempt puts its result; no two attempts ever share a key."""
    return f"{PROCESSED}{video_id}/{fence}-{attempt_id}.mp4"
