"""Checks HTTP responses: parses the API's JSON, and turns error responses into CLI exceptions."""

import math
import re
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from anb_cli.errors import CliError, NotOurs, Refused, Unreachable
from anb_cli.text import clean
from anb_core.domain.naming import VIDEO_ID_PATTERN

Json = dict[str, Any]

LARGEST = 64_000_000
"""Maximum size of a response body, in bytes. A page of 100 videos has about one hundredth of this size."""

LONGEST = 120.0
"""Maximum time between the first and the last byte of a response body, in seconds."""

INSUFFICIENT_STORAGE = 507

ADVICE = {
    "scope_missing": (
        " The operator of the deployment makes such a token: `python -m anb_api token create --owner NAME --scope ops`."
    )
}
"""Advice for the user, by the code of a refusal. The API's own message can't contain this advice."""


def read(response: httpx.Response) -> httpx.Response:
    """Read the body of a streamed response, and return a response that contains this body.

    Raises:
        NotOurs: the body is longer than LARGEST bytes, or takes longer than LONGEST seconds.
    """
    pieces, size, deadline = [], 0, time.monotonic() + LONGEST
    for piece in response.iter_bytes():
        pieces.append(piece)
        size += len(piece)
        if size > LARGEST or time.monotonic() > deadline:
            raise _not_ours(response)
    headers = [(name, value) for name, value in response.headers.items() if name in {"location", "retry-after"}]
    return httpx.Response(response.status_code, headers=headers, content=b"".join(pieces), request=response.request)


def object_of(response: httpx.Response) -> Json:
    """Return the JSON object in the response body.

    Raises:
        NotOurs: the response is a redirect, or its body is not a JSON object.
    """
    if response.has_redirect_location:
        place = clean(response.headers["location"])
        raise NotOurs(f"{response.url} redirects to {place}: set ANB_URL to the address of the deployment.")
    data = _json(response)
    if not isinstance(data, dict):
        raise _not_ours(response)
    return data


def video_of(data: object) -> Json:
    """Check all fields of a video that the commands use, and return the video.

    Raises:
        NotOurs: a field is missing or malformed.
    """
    if not isinstance(data, dict) or not _is_video(data):
        raise NotOurs("The response is not a video of ANB Video: is the address right?")
    return data


def receipt_of(data: Json) -> Json:
    """Check the receipt of an upload, and return the receipt.

    Raises:
        NotOurs: the data is not the receipt of an upload.
    """
    if not _is_id(data.get("video_id")):
        raise NotOurs("The response is not an upload receipt of ANB Video: is the address right?")
    return data


def page_of(data: Json) -> tuple[list[Json], str | None]:
    """Return the videos of one page of the list, and the cursor of the next page (None on the last page).

    Raises:
        NotOurs: the data is not a page of the list.
    """
    videos, cursor = data.get("videos"), data.get("next_cursor")
    if not isinstance(videos, list) or not isinstance(cursor, str | None):
        raise NotOurs("The response is not a list of ANB Video: is the address right?")
    # Treat a page without videos as the last page, so that a faulty server can't cause an endless loop.
    return [video_of(video) for video in videos], cursor if videos else None


def refusal_of(response: httpx.Response) -> CliError:
    """Return the exception for an error response."""
    problem = _json(response)
    retry_after = _seconds(response.headers.get("retry-after"))
    if not isinstance(problem, dict) or "code" not in problem:
        # While the API restarts, a proxy in front of the API sends error responses without problem details.
        kind = Unreachable if response.is_server_error else NotOurs
        sentence = f"HTTP {response.status_code} from {response.url}, which is not ANB Video: is the address right?"
        return kind(sentence, retry_after=retry_after)
    code = str(problem["code"])
    sentence = clean(" ".join(str(problem.get("detail") or problem.get("title") or code).split()))
    if response.is_server_error and response.status_code != INSUFFICIENT_STORAGE:
        return Unreachable(f"{sentence} (HTTP {response.status_code}, {clean(code)})", retry_after=retry_after)
    return Refused(
        f"{sentence} ({clean(code)}){ADVICE.get(code, '')}",
        code=code,
        status=response.status_code,
        retry_after=retry_after,
    )


def unreachable(url: str, error: Exception) -> Unreachable:
    """Return the exception for a request that got no response."""
    match error:
        case httpx.ConnectError() if "SSL" in str(error):
            return Unreachable(f"There is no secure connection to {url}: {clean(str(error))}.")
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return Unreachable(f"Nothing answers at {url}: is it running? `anb up` starts a stack on this machine.")
        case httpx.TimeoutException():
            return Unreachable(f"{url} took too long to answer.")
        case httpx.LocalProtocolError():
            # Do not print httpx's message, because the message may contain the header with the token.
            return Unreachable(f"The connection to {url} broke: {type(error).__name__}.")
    return Unreachable(f"The connection to {url} broke: {clean(str(error)).rstrip('.') or type(error).__name__}.")


def _not_ours(response: httpx.Response) -> NotOurs:
    return NotOurs(f"The response of {response.url} is not from ANB Video: is the address right?")


def _json(response: httpx.Response) -> object:
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def _is_video(data: Json) -> bool:
    try:
        datetime.fromisoformat(data["created_at"]).astimezone()
        return (
            all(isinstance(data[name], str) for name in ("status", "title", "file_name"))
            and _is_id(data["video_id"])
            and 0 <= data["progress"] <= 1
            and all(isinstance(data[name], dict | None) for name in ("result", "error"))
            and (data["result"] is None or _is_result(data["result"]))
            and (data["error"] is None or {"code", "message"} <= data["error"].keys())
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return False


def _is_id(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(VIDEO_ID_PATTERN, value) is not None


def _is_result(data: Json) -> bool:
    size, digest = data["size"], data["sha256"]
    return isinstance(size, int) and 0 <= size < 2**63 and re.fullmatch(r"[0-9a-f]{64}", digest) is not None


def _seconds(retry_after: str | None) -> float | None:
    """Return the wait in seconds from a Retry-After header (a number or a date), or None if the header is invalid."""
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
