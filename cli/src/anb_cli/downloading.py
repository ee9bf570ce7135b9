"""Fetching a finished video: into a part beside its final name, continued where it broke, renamed when whole."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from anb_cli.client import Api, is_loopback
from anb_cli.errors import Unreachable, VideoFailed, WrongUse
from anb_core.domain.naming import result_file_name, safe_file_name

TRIES = 4
PARTIAL = 206


def target(video: dict[str, Any], output: Path | None) -> Path:
    """Where the file goes. A file that is there is only replaced when it was named.

    Raises:
        WrongUse: it can't go there.
    """
    if output is None or output.is_dir():
        path = (output or Path()) / safe_file_name(result_file_name(str(video["file_name"])))
        if path.exists():
            raise WrongUse(f"{path} exists already: name another file, or this one, with -o.")
        return path
    if not output.parent.is_dir():
        raise WrongUse(f"There is no folder {output.parent}.")
    return output


def download(
    api: Api,
    video: dict[str, Any],
    path: Path,
    *,
    on_bytes: Callable[[int], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Fetch the result of a processed video to `path`, whole or not at all. `on_bytes` gets how many bytes are there.

    Raises:
        Unreachable: the bucket does not answer.
        VideoFailed: what came is not what the API announced.
    """
    size, digest = int(video["result"]["size"]), str(video["result"]["sha256"])
    # Named after its content: a part of another result is never continued.
    part = path.with_name(f".{path.name}.{digest[:16]}.part")
    try:
        for tries in range(1, TRIES + 1):
            why = _fetch(api, video, part, size, on_bytes)
            if why is None:
                break
            if tries == TRIES:
                raise Unreachable(f"The download broke off {TRIES} times ({why}). The same command continues it.")
            sleep(2.0 ** (tries - 1))
        on_bytes(size)
        if part.stat().st_size != size or _sha256(part) != digest:
            part.unlink()
            raise VideoFailed("What was downloaded is not what the API announced, so it was thrown away: try again.")
        part.replace(path)
    except OSError as error:
        raise WrongUse(f"{path} can't be written: {error.strerror}.") from error


def _fetch(api: Api, video: dict[str, Any], part: Path, size: int, on_bytes: Callable[[int], None]) -> str | None:
    """Add to the part what is missing; None when nothing is any more, else why."""
    have = part.stat().st_size if part.exists() else 0
    if have >= size:
        return None
    try:
        have = _stream(api.download_url(video["video_id"]), part, have, size, on_bytes)
    except httpx.TransportError as error:
        return str(error) or type(error).__name__
    return None if have >= size else f"{have} of {size} bytes came"


def _stream(url: str, part: Path, have: int, size: int, on_bytes: Callable[[int], None]) -> int:
    """The URL itself is the permission: our token is none of the bucket's business, so another client asks."""
    headers = {"Range": f"bytes={have}-"} if have else {}
    with (
        httpx.Client(timeout=httpx.Timeout(30.0, connect=5.0), trust_env=not is_loopback(url)) as http,
        http.stream("GET", url, headers=headers) as answer,
    ):
        if answer.is_error:
            raise Unreachable(f"The bucket answered with HTTP {answer.status_code} instead of the video.")
        if answer.status_code != PARTIAL:
            have = 0
        with part.open("ab" if have else "wb") as file:
            # As it comes: a larger piece that was still being filled would be lost when the connection breaks.
            for piece in answer.iter_raw():
                file.write(piece)
                have += len(piece)
                on_bytes(have)
                if have > size:
                    break
    return have


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
