"""Finds a video's complete id from an id or a unique prefix that the user gives."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Protocol

from anb_cli.errors import Refused, WrongUse
from anb_cli.text import clean
from anb_core.domain.errors import Invalid
from anb_core.domain.naming import check_video_id

ENOUGH_TO_ACT = 8
"""Minimum length of an id's prefix for cancel, retry and delete. A complete id may be shorter."""

USUAL_ID_LENGTH = 36
"""Length of a UUID. An id with the length of a UUID is complete and needs no search."""

LOOKED_THROUGH = 500
"""Maximum number of videos that are searched for a prefix, newest first. Cancel, retry and delete search all videos."""

SHOWN = 10
"""Maximum number of videos in the error message for a prefix that is not unique."""


class Source(Protocol):
    """The methods of the API client that `whole_id` needs."""

    def get(self, video_id: str) -> dict[str, Any]: ...

    def videos(self, *, limit: int | None) -> Iterator[dict[str, Any]]: ...


def whole_id(api: Source, given: str, *, enough: int = 1) -> str:
    """Return the complete id for `given`, which is an id or a prefix of exactly one id.

    `enough` is the minimum length of a prefix.

    Raises:
        WrongUse: `given` is not a valid id, is too short for a prefix, or is a prefix of several ids.
        Refused: there is no video with this id or prefix.
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
