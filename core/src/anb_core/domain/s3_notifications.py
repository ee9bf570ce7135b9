"""S3 event notifications: messages by which a bucket reports changes of its objects.

S3 sends a notification directly to the queue, or through SNS, which wraps the notification in an envelope.
MinIO and Ceph send the same format with another `eventSource`.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from anb_core.domain.adoption import adopted_id, object_version
from anb_core.domain.keys import MAX_KEY_BYTES, utf8_bytes
from anb_core.domain.message import UnreadableMessage, read_object

MAX_BUCKET_BYTES = 255


@dataclass(frozen=True, slots=True)
class CreatedObject:
    """An object that was created or overwritten, according to a notification."""

    bucket: str
    key: str
    version: str
    """The version id of the object, or the ETag if the bucket keeps no versions. Empty if the event has neither."""
    empty: bool = False
    """Whether the object has no bytes. Some programs create empty objects for folders."""

    @property
    def video_id(self) -> str:
        """The id of the object's video. It is the same for every event about the same version of the object."""
        return adopted_id(self.bucket, self.key, self.version)


def created_objects(body: str) -> tuple[CreatedObject, ...] | None:
    """Return the created objects that a message body reports. None if the body is no notification of S3.

    A notification about another event, such as a removal or a test, reports no created object.

    Raises:
        UnreadableMessage: the body is not a JSON object, or a record lacks its bucket or its key.
    """
    fields = _without_envelope(read_object(body))
    records = fields.get("Records")
    if "video_id" in fields:
        return None
    if fields.get("Event") == "s3:TestEvent":
        return ()
    if not isinstance(records, list) or not all(_is_from_s3(record) for record in records):
        return None
    return tuple(_created(record, number) for number, record in enumerate(records, start=1) if _is_creation(record))


def _without_envelope(fields: dict[str, Any]) -> dict[str, Any]:
    message = fields.get("Message")
    if fields.get("Type") != "Notification" or not isinstance(message, str):
        return fields
    try:
        return read_object(message)
    except UnreadableMessage as error:
        raise UnreadableMessage(f"Message of the SNS notification: {error}") from error


def _is_from_s3(record: object) -> bool:
    return (_text(record, "eventSource") or "").endswith(":s3")


def _is_creation(record: object) -> bool:
    return (_text(record, "eventName") or "").removeprefix("s3:").startswith("ObjectCreated:")


def _created(record: object, number: int) -> CreatedObject:
    """Convert a record. Error messages name the record by its `number`, counted from 1."""
    # S3 encodes keys like the fields of an HTML form: a space is a plus sign.
    key = unquote_plus(_text(record, "s3", "object", "key") or "")
    bucket = _text(record, "s3", "bucket", "name") or ""
    for name, value, most in (("bucket name", bucket, MAX_BUCKET_BYTES), ("key", key, MAX_KEY_BYTES)):
        if not 0 < utf8_bytes(value) <= most:
            raise UnreadableMessage(f"record {number} has no {name} of 1 to {most} bytes")
    version = object_version(_text(record, "s3", "object", "versionId"), _text(record, "s3", "object", "eTag"))
    # Ceph sends the size as a string.
    empty = _at(record, "s3", "object", "size") in (0, "0")
    return CreatedObject(bucket, key, version, empty)


def _at(value: object, *path: str) -> object:
    """Return the value in nested JSON objects. `path` has the names of the fields. None if a field is missing."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _text(value: object, *path: str) -> str | None:
    """Return the text at a path of fields in nested JSON objects. None if a field is missing or is not a text."""
    found = _at(value, *path)
    return found if isinstance(found, str) else None
