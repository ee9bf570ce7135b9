"""Decides which videos a caller may see. For all other videos, the error says that the video does not exist."""

from collections.abc import Sequence
from dataclasses import dataclass

from anb_core.domain.errors import Forbidden, NotFound
from anb_core.domain.model import Attempt, Record, Scope
from anb_core.ports.store import Reading


@dataclass(frozen=True, slots=True)
class Caller:
    """The person or program that requests an operation."""

    owner: str
    scope: Scope = Scope.USER
    """With the scope `ops` the caller may see all videos, with the scope `user` only the videos of `owner`."""

    @property
    def sees_owner(self) -> str | None:
        """The owner whose videos the caller may see. None for all owners."""
        return None if self.scope is Scope.OPS else self.owner


def check_operator(caller: Caller, what: str) -> None:
    """Check that the caller may see `what`, which belongs to the whole deployment. `what` is a plural noun.

    Raises:
        Forbidden: `scope_missing` if the caller's token does not have the scope `ops`.
    """
    if caller.scope is not Scope.OPS:
        raise Forbidden("scope_missing", f"{what} need a token of scope ops; this one has scope {caller.scope}.")


def find(store: Reading, caller: Caller, video_id: str) -> Record:
    """Return a video that the caller may see.

    Raises:
        NotFound: `video_not_found` if the video does not exist, or the caller may not see it.
    """
    return check_visible(caller, video_id, store.get(video_id))


def find_with_history(store: Reading, caller: Caller, video_id: str) -> tuple[Record, Sequence[Attempt]]:
    """Return a video that the caller may see, and all its attempts, ordered from old to new.

    Raises:
        NotFound: `video_not_found` if the video does not exist, or the caller may not see it.
    """
    history = store.history(video_id)
    return check_visible(caller, video_id, history.record), history.attempts


def check_visible(caller: Caller, video_id: str, record: Record | None) -> Record:
    """Return the record of a video if the caller may see it.

    Raises:
        NotFound: `video_not_found` if the video does not exist, or the caller may not see it.
    """
    if record is None or caller.sees_owner not in {None, record.video.owner}:
        raise NotFound("video_not_found", f"There is no video {video_id}.")
    return record
