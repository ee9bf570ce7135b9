"""Gives schemathesis values that it can't derive from a schema: a video file, cursors, keys, and ids of real videos.

Schemathesis imports the module that the environment variable SCHEMATHESIS_HOOKS names.
"""

import os
import re
import uuid
from datetime import UTC, datetime
from typing import Any

import schemathesis
from hypothesis import strategies as st

from anb_api.adoptions import KEY_FORMAT
from anb_api.dead_letter_schemas import CURSOR_FORMAT as DEAD_LETTER_CURSOR
from anb_api.dead_letter_schemas import write_cursor as write_dead_letter_cursor
from anb_api.schemas import write_cursor
from anb_api.videos import CURSOR_FORMAT
from anb_core.domain.dead_letters import DeadLetterPage
from anb_core.domain.model import EventKind
from anb_core.domain.naming import IDEMPOTENCY_KEY_PATTERN, VIDEO_ID_PATTERN
from anb_core.ports.store import Page
from tests.support.api import VIDEO

FINISHED = os.environ["ANB_TEST_FINISHED"]
"""The id of a finished video, whose event stream ends. A test of an endless stream would hang."""

CANCELLED = os.environ["ANB_TEST_CANCELLED"].split()

DEAD_LETTERS = [int(dead_letter_id) for dead_letter_id in os.environ["ANB_TEST_DEAD_LETTERS"].split()]

CHANGES = ("DELETE", "POST")

EVENT = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9]+$"},
        "event": {"type": "string", "enum": [kind.value for kind in EventKind]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/Event"},
        },
    },
}
"""The schema of one event. The API's own schema describes an event stream only as a string."""

schemathesis.openapi.format("binary", st.just(VIDEO[:100]))
schemathesis.openapi.format(KEY_FORMAT, st.sampled_from(["uploads/", "uploads/a/b.mp4"]))
_TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants them naive

schemathesis.openapi.format(
    CURSOR_FORMAT,
    st.builds(
        lambda time, number: write_cursor(Page(time, f"video-{number}")),
        _TIMES,
        st.integers(0, 9),
    ),
)
schemathesis.openapi.format(
    DEAD_LETTER_CURSOR,
    st.builds(
        lambda time, number: write_dead_letter_cursor(DeadLetterPage(time, number)),
        _TIMES,
        st.sampled_from([DEAD_LETTERS[0], 2**63 - 1]),
    ),
)


def _is_id(path_parameters: Any) -> bool:
    return bool(re.fullmatch(VIDEO_ID_PATTERN, str((path_parameters or {}).get("video_id", ""))))


@schemathesis.hook
def before_load_schema(_context: Any, schema: dict[str, Any]) -> None:
    """Let schemathesis check each event of a stream against EVENT."""
    responses = schema["paths"]["/api/videos/{video_id}/events"]["get"]["responses"]
    responses["200"]["content"]["text/event-stream"]["schema"] = EVENT


@schemathesis.hook
def flatmap_path_parameters(context: Any, path_parameters: Any) -> st.SearchStrategy[Any]:
    """In half of the test cases with a valid id, replace the id with the id of an existing video or dead letter."""
    if str((path_parameters or {}).get("dead_letter_id", "")).isdecimal():
        some = st.sampled_from(DEAD_LETTERS).map(lambda dead_letter_id: {"dead_letter_id": dead_letter_id})
        return st.one_of(st.just(path_parameters), some)
    if not _is_id(path_parameters):
        return st.just(path_parameters)
    real = CANCELLED if context.operation.method.upper() in CHANGES else [FINISHED]
    return st.one_of(st.just(path_parameters), st.sampled_from(real).map(lambda video_id: {"video_id": video_id}))


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Change a test case so that its request does not hang and does not conflict with an earlier request."""
    if case.path.endswith("/events") and _is_id(case.path_parameters):
        # Use a finished video, because the event stream of an unfinished video would not end.
        case.path_parameters["video_id"] = FINISHED
    # Use a new idempotency key, because the API refuses a key that an earlier case used for another upload.
    if re.fullmatch(IDEMPOTENCY_KEY_PATTERN, str((case.headers or {}).get("Idempotency-Key", ""))):
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
