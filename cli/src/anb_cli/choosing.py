"""Which video is meant by an id on the command line, of which the beginning is enough."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Protocol

from anb_cli.errors import Refused, WrongUse
from anb_cli.text import clean
from anb_core.domain.errors import Invalid
from anb_core.domain.naming import check_video_id

ENOUGH_TO_ACT = 8
"""So many characters of an id, or all of it, are asked for by what can't be undone."""

USUAL_ID_LENGTH = 36

LOOKED_THROUGH = 500
"""So many of the newest videos are looked through for the beginning of an id, and all by what can't be undone."""

SHOWN = 10


class Source(Protocol):
    """What is needed of the API."""

    def get(self, video_id: str) -> dict[str, Any]: ...

    def videos(self, *, limit: int | None) -> Iterator[dict[str, Any]]: ...


def whole_id(api: Source, given: str, *, enough: int = 1) -> str:
    """The id that is `given`, or the only one that begins so with at least `enough` characters.

    Raises:
        WrongUse: it can't be an id, is too short, or several begin so.
        Refused: there is none.
    """
    if not given.strip():
        raise WrongUse("An id is empty: give a video's id, or enough of its beginning.")
    try:
        check_video_id(given)
    except Invalid as error:
        raise WrongUse(str(error)) from error
    if len(given) >= USUAL_ID_LENGTH:
        return given
    if len(given) < enough:
        return _short_id(api, given, enough)
    most = LOOKED_THROUGH if enough == 1 else None
    found = {video["video_id"]: video for video in api.videos(limit=most) if _begins(video, given)}
    if given in found:
        return given
    if len(found) > 1:
        raise WrongUse(_several(given, list(found.values())))
    return next(iter(found), None) or str(api.get(given)["video_id"])


def _short_id(api: Source, given: str, enough: int) -> str:
    try:
        return str(api.get(given)["video_id"])
    except Refused as refusal:
        if refusal.status != HTTPStatus.NOT_FOUND:
            raise
        raise WrongUse(
            f"{given!r} is not enough: give at least {enough} characters of the id, or all of it."
        ) from refusal


def _begins(video: dict[str, Any], given: str) -> bool:
    return str(video["video_id"]).startswith(given)


def _several(given: str, videos: list[dict[str, Any]]) -> str:
    lines = [f"  {video['video_id']}  {video['status']}  {clean(video['title'])}" for video in videos[:SHOWN]]
    if len(videos) > SHOWN:
        lines.append(f"  and {len(videos) - SHOWN} more")
    return "\n".join((f"{len(videos)} videos have an id that begins with {given!r}, give more of it:", *lines))
