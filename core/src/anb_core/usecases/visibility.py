"""Who asks, and what there is for them: another owner's video is not refused to them, it does not exist."""

from collections.abc import Sequence
from dataclasses import dataclass

from anb_core.domain.errors import NotFound
from anb_core.domain.model import Attempt, Record, Scope
from anb_core.ports.store import Reading


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf something is done."""

    owner: str
    scope: Scope = Scope.USER

    @property
    def sees_owner(self) -> str | None:
        """Whose videos this caller sees; None: everybody's."""
        return None if self.scope is Scope.OPS else self.owner


def find(store: Reading, caller: Caller, video_id: str) -> Record:
    """The video, if the caller may see it.

    Raises:
        NotFound: `video_not_found`.
    """
    return _seen(caller, video_id, store.get(video_id))


def find_with_history(store: Reading, caller: Caller, video_id: str) -> tuple[Record, Sequence[Attempt]]:
    """The same, and all attempts ever made, oldest first.

    Raises:
        NotFound: `video_not_found`.
    """
    record, attempts = store.history(video_id)
    return _seen(caller, video_id, record), attempts


def _seen(caller: Caller, video_id: str, record: Record | None) -> Record:
    if record is None or caller.sees_owner not in {None, record.video.owner}:
        raise NotFound("video_not_found", f"There is no video {video_id}.")
    return record
