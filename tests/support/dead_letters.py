"""Example dead letters in the JSON format of the API, and an API with one dead letter."""

from typing import Any

from tests.support.deployments import Handler

VIDEO_ID = "0f9e8d7c-6b5a-4000-8000-000000000000"


def a_dead_letter(**changes: Any) -> dict[str, Any]:
    """Return a dead letter in the API's JSON format. Keyword arguments replace fields of the dead letter."""
    return {
        "id": 12,
        "cause": "failures",
        "detail": "The operator's watermark can't be used: it is not a PNG picture.",
        "code": "bad_resource",
        "error_detail": None,
        "video_id": VIDEO_ID,
        "generation": 1,
        "owner": "ana",
        "worker": "worker-1",
        "version": "0.1.0",
        "failures": 3,
        "lost": 0,
        "message_id": None,
        "created_at": "2026-11-29T11:00:00.000+00:00",
        "resolution": None,
        "resolved_at": None,
        "resolved_by": None,
        "reason": None,
        "body": None,
        "body_bytes": None,
        "attempts": [],
        **changes,
    }


def serve_dead_letter(request: Handler, letter: dict[str, Any]) -> None:
    """Respond to a request like the real API if `letter` were its only dead letter."""
    if "?" in request.path:
        request.reply_json(200, {"dead_letters": [letter], "next_cursor": None})
    elif request.path.endswith("/dead-letters/redrive"):
        request.body()
        report = {"matched": 1, "ids": [12], "skipped": [], "left": 0, "spread_seconds": 0.02, "next_cursor": None}
        request.reply_json(200, report)
    else:
        request.reply_json(200, letter)
