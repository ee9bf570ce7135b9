"""The message that wakes a worker. It only points to a job. The job's row decides whether an attempt begins.

Two older producers send messages in formats of their own, which are also accepted.
The fields of the first format are `video_id`, `video_path`, `task_id` and `created_at`.
The fields of the second format are `video_id`, `file_path`, `status` and `timestamp`.
Unknown fields of a message are ignored.
"""

import json
import re
import reprlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from anb_core.domain.naming import VIDEO_ID_PATTERN

MAX_BODY_BYTES = 256 * 1024
"""Maximum size of the body of a message that we send or read, in bytes. SQS itself also accepts larger bodies."""


class UnreadableMessage(ValueError):
    """The message body has none of the accepted formats. The error text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Message:
    """The content of a message. It identifies a job by the id of the job's video."""

    video_id: str
    generation: int | None
    """The job's generation. None in messages of the two older producers."""
    key: str | None
    """Key of the uploaded object. None if the message contains no key."""
    bucket: str | None
    """Bucket of the uploaded object. None if the message contains no bucket."""


def encode(*, video_id: str, task_id: str, generation: int, bucket: str, key: str, created_at: datetime) -> str:
    """Return the message body as JSON. It also has the fields that consumers of both older formats read."""
    return json.dumps(
        {
            "video_id": video_id,
            "task_id": task_id,
            "generation": generation,
            "video_path": f"s3://{bucket}/{key}",
            "file_path": key,
            "status": "pending",
            "created_at": created_at.isoformat(),
            "timestamp": created_at.isoformat(),
        }
    )


def decode(body: str) -> Message:
    """Parse a message body of this project or of one of the two older producers.

    Raises:
        UnreadableMessage: the body is too large or no JSON object, has no valid `video_id`, or has a field of a wrong
            type.
    """
    fields = read_object(body)
    video_id = _text(fields, "video_id")
    if not video_id:
        is_from_sns = fields.get("Type") == "Notification"
        raise UnreadableMessage(
            "the body is an SNS notification that is not about an object of S3: messages of ours need raw delivery"
            if is_from_sns
            else "the body has no video_id"
        )
    # An invalid id, which any program may send, must not get into logs and lists.
    if not re.fullmatch(VIDEO_ID_PATTERN, video_id):
        raise UnreadableMessage(f"video_id is {reprlib.repr(video_id)}, which is not a valid id of a video")
    bucket, key = _location(fields)
    return Message(
        video_id=video_id,
        generation=_generation(fields),
        key=key,
        bucket=bucket,
    )


def read_object(body: str) -> dict[str, Any]:
    """Read a message body as a JSON object.

    Raises:
        UnreadableMessage: the body is too large, or is not a JSON object.
    """
    if len(body.encode(errors="replace")) > MAX_BODY_BYTES:
        raise UnreadableMessage(f"the body has more than {MAX_BODY_BYTES} bytes")
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnreadableMessage(f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise UnreadableMessage(f"the body is a JSON {type(fields).__name__}, not an object")
    return fields


def _text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value
    raise UnreadableMessage(f"{name} is {reprlib.repr(value)}, not text")


def _generation(fields: dict[str, Any]) -> int | None:
    value = fields.get("generation")
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise UnreadableMessage(f"generation is {reprlib.repr(value)}, not a whole number")


def _location(fields: dict[str, Any]) -> tuple[str | None, str | None]:
    path = _text(fields, "video_path")
    if path and path.startswith("s3://"):
        bucket, _, key = path.removeprefix("s3://").partition("/")
        if bucket and key:
            return bucket, key
    return None, _text(fields, "file_path") or path
