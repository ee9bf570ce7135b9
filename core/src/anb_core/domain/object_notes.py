"""The notes on our objects. If a restored database lacks the rows of an object, its note says what the object is."""

import json
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from anb_core.domain.edit import EditSpec
from anb_core.domain.keys import upload_key
from anb_core.domain.model import NewVideo, Result

MAX_NOTE = 1900
"""Maximum number of characters of a note. S3 stores 2 KB of metadata for an object, including the name of the note."""


@dataclass(frozen=True, slots=True)
class UploadNote:
    """What a person said about an upload when it began. A title or edit that came after the file is missing."""

    owner: str
    edit: EditSpec
    process_after: datetime | None = None
    title: str = "video"
    file_name: str = "video.mp4"


@dataclass(frozen=True, slots=True)
class ResultNote:
    """The values of a result, which its worker has verified. The key of the object is not repeated."""

    size: int
    sha256: str
    width: int
    height: int
    duration: float
    frames: int
    worker: str
    """Name of the worker that made the result."""


_UPLOAD, _RESULT = TypeAdapter(UploadNote), TypeAdapter(ResultNote)


def note_of_upload(new: NewVideo) -> str:
    """Return the note for the object of an upload. Long texts that are only shown are left out if there is no room."""
    note = UploadNote(new.owner, new.edit, new.process_after, new.title, new.file_name)
    kept: dict[str, Any] = _UPLOAD.dump_python(note, mode="json")
    for name in ("file_name", "title", "owner"):
        if len(_text(kept)) > MAX_NOTE:
            del kept[name]
    return _text(kept)


def note_of_result(result: Result, worker: str) -> str:
    """Return the note for the object of a result."""
    return _text({name: value for name, value in asdict(result).items() if name != "key"} | {"worker": worker})


def read_upload(note: str, video_id: str, task_id: str) -> NewVideo | None:
    """Return the video that an upload's object was written for. None if its note does not say so."""
    try:
        found = _UPLOAD.validate_json(note)
    except ValidationError:
        return None
    return NewVideo(
        id=video_id,
        task_id=task_id,
        owner=found.owner,
        title=found.title,
        edit=found.edit,
        source_key=upload_key(video_id),
        owned=True,
        file_name=found.file_name,
        process_after=found.process_after,
    )


def read_result(note: str, key: str, size: int) -> tuple[Result, str] | None:
    """Return the result in an object of `size` bytes, and the name of its worker. None if its note does not say so."""
    try:
        found = _RESULT.validate_json(note)
    except ValidationError:
        return None
    if found.size != size:
        return None
    values = {field.name: getattr(found, field.name) for field in fields(ResultNote) if field.name != "worker"}
    return Result(key=key, **values), found.worker


def _text(values: dict[str, Any]) -> str:
    # JSON escapes all characters that are not ASCII, because S3 allows no others.
    return json.dumps(values, separators=(",", ":"))
