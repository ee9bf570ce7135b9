"""Example videos in the JSON format of the API."""

from typing import Any


def a_video(**changes: Any) -> dict[str, Any]:
    """Return a processed video in the API's JSON format. Keyword arguments replace fields of the video."""
    return {
        "video_id": "0f9e8d7c-6b5a-4000-8000-000000000000",
        "task_id": "t",
        "owner": "me",
        "title": "A clip",
        "file_name": "clip.mp4",
        "status": "processed",
        "progress": 1.0,
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:01:00Z",
        "error": None,
        "result": {"size": 5, "sha256": "0" * 64},
        **changes,
    }
