"""What came back over HTTP, judged: an answer of the API, its refusal, or something that is not ANB Video's at all."""

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
"""Bytes of an answer: a page of a hundred videos has a hundredth of that."""

LONGEST = 120.0
"""Seconds that an answer may take after its first byte."""

INSUFFICIENT_STORAGE = 507


def read(answer: httpx.Response) -> httpx.Response:
    """The answer with its body, which is neither endless nor endlessly slow.

    Raises:
        NotOurs: it is.
    """
    pieces, size, until = [], 0, time.monotonic() + LONGEST
    for piece in answer.iter_bytes():
        pieces.append(piece)
        size += len(piece)
        if size > LARGEST or time.monotonic() > until:
            raise _not_ours(answer)
    headers = [(name, value) for name, value in answer.headers.items() if name in {"location", "retry-after"}]
    return httpx.Response(answer.status_code, headers=headers, content=b"".join(pieces), request=answer.request)


def object_of(answer: httpx.Response) -> Json:
    """The JSON object that was answered.

    Raises:
        NotOurs: it is none.
    """
    if answer.has_redirect_location:
        place = clean(answer.headers["location"])
        raise NotOurs(f"{answer.url} sends everybody on to {place}: set ANB_URL to the address of the deployment.")
    said = _json(answer)
    if not isinstance(said, dict):
        raise _not_ours(answer)
    return said


def video_of(said: object) -> Json:
    """A video, with all that the commands need of it.

    Raises:
        NotOurs: something is missing, or not what it should be.
    """
    if not isinstance(said, dict) or not _is_video(said):
        raise NotOurs("What was answered is no video of ANB Video: is the address right?")
    return said


def receipt_of(said: Json) -> Json:
    """The receipt of an upload.

    Raises:
        NotOurs: it is none.
    """
    if not _is_id(said.get("video_id")):
        raise NotOurs("What was answered is no receipt of ANB Video: is the address right?")
    return said


def page_of(said: Json) -> tuple[list[Json], str | None]:
    """The videos of one page, and where the next one begins.

    Raises:
        NotOurs: it is no page.
    """
    videos, cursor = said.get("videos"), said.get("next_cursor")
    if not isinstance(videos, list) or not isinstance(cursor, str | None):
        raise NotOurs("What was answered is no list of ANB Video: is the address right?")
    # A page without videos is the last, or asking on would never end.
    return [video_of(video) for video in videos], cursor if videos else None


def refusal_of(answer: httpx.Response) -> CliError:
    """The error that an answer tells of."""
    problem = _json(answer)
    retry_after = _seconds(answer.headers.get("retry-after"))
    if not isinstance(problem, dict) or "code" not in problem:
        # A proxy speaks so while the API behind it is restarted.
        kind = Unreachable if answer.is_server_error else NotOurs
        sentence = f"HTTP {answer.status_code} from {answer.url}, which is not ANB Video's: is the address right?"
        return kind(sentence, retry_after=retry_after)
    code = str(problem["code"])
    sentence = clean(" ".join(str(problem.get("detail") or problem.get("title") or code).split()))
    if answer.is_server_error and answer.status_code != INSUFFICIENT_STORAGE:
        return Unreachable(f"{sentence} (HTTP {answer.status_code}, {clean(code)})", retry_after=retry_after)
    return Refused(f"{sentence} ({clean(code)})", code=code, status=answer.status_code, retry_after=retry_after)


def unreachable(url: str, error: Exception) -> Unreachable:
    """Why no answer came."""
    match error:
        case httpx.ConnectError() if "SSL" in str(error):
            return Unreachable(f"There is no safe connection to {url}: {clean(str(error))}.")
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return Unreachable(f"Nothing answers at {url}: is it running? `anb up` starts a stack on this machine.")
        case httpx.TimeoutException():
            return Unreachable(f"{url} took too long to answer.")
        case httpx.LocalProtocolError():
            # Its words may quote a header, so the token.
            return Unreachable(f"The connection to {url} broke: {type(error).__name__}.")
    return Unreachable(f"The connection to {url} broke: {clean(str(error)) or type(error).__name__}.")


def _not_ours(answer: httpx.Response) -> NotOurs:
    return NotOurs(f"{answer.url} answered with something that is not ANB Video's: is the address right?")


def _json(answer: httpx.Response) -> object:
    try:
        return answer.json()
    except (ValueError, RecursionError):
        return None


def _is_video(said: Json) -> bool:
    try:
        datetime.fromisoformat(said["created_at"]).astimezone()
        return (
            all(isinstance(said[name], str) for name in ("status", "title", "file_name"))
            and _is_id(said["video_id"])
            and 0 <= said["progress"] <= 1
            and all(isinstance(said[name], dict | None) for name in ("result", "error"))
            and (said["result"] is None or _is_result(said["result"]))
            and (said["error"] is None or {"code", "message"} <= said["error"].keys())
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return False


def _is_id(said: object) -> bool:
    return isinstance(said, str) and re.fullmatch(VIDEO_ID_PATTERN, said) is not None


def _is_result(said: Json) -> bool:
    size, digest = said["size"], said["sha256"]
    return isinstance(size, int) and 0 <= size < 2**63 and re.fullmatch(r"[0-9a-f]{64}", digest) is not None


def _seconds(retry_after: str | None) -> float | None:
    """What a Retry-After header says, in seconds; None where it says nothing."""
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
