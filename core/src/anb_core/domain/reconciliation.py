"""What to do where the database and the bucket differ, because the database was restored to an earlier state."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from anb_core.domain.keys import parse_result_key
from anb_core.domain.model import NewVideo, Record, Result
from anb_core.domain.object_notes import read_result
from anb_core.domain.status import Status


class Action(StrEnum):
    """What a reconciliation does about a difference. The last three are only reported."""

    RESTORE_UPLOAD = "restore_upload"
    """Make the uploaded file a video again, with its old id. The database has no video with this id."""
    COMPLETE_UPLOAD = "complete_upload"
    """Complete an upload whose file is in the bucket. In the database, the upload never ended."""
    RESTORE_RESULT = "restore_result"
    """Make a result current that was verified. In the database, the job has no result."""
    RENDER_AGAIN = "render_again"
    """Process a video again whose result is gone."""
    DELETE_RESULT = "delete_result"
    """Delete a result that is not that of its video, and of which the database does not know."""
    UNKNOWN_UPLOAD = "unknown_upload"
    """Nothing. The object belongs to no video, and does not say whose it is."""
    UNKNOWN_RESULT = "unknown_result"
    """Nothing. The result belongs to no video, and the uploaded file is not there."""
    SOURCE_MISSING = "source_missing"
    """Nothing. The uploaded file of a video is gone."""

    @property
    def changes(self) -> bool:
        """Whether the action changes something."""
        return self not in {Action.UNKNOWN_UPLOAD, Action.UNKNOWN_RESULT, Action.SOURCE_MISSING}


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference between the database and the bucket, and what to do about it."""

    action: Action
    video_id: str
    key: str
    """Key of the object that is in the bucket, or that is gone from it."""
    message: str


@dataclass(frozen=True, slots=True)
class RestoredResult:
    """A result that becomes current."""

    result: Result
    worker: str
    """Name of the worker that made the result."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the database knows about the objects of one video id."""

    record: Record | None = None
    """The video and its job. None if the database has no such video."""
    deleted: bool = False
    """Whether the video was deleted."""
    upload_ended: bool = False
    """Whether the upload is not complete, and was not renewed within its lifetime."""
    leased: bool = False
    """Whether an attempt runs, and its lease has not expired."""
    attempts: frozenset[str] = frozenset()
    """The keys of the result objects of all attempts."""
    doomed: frozenset[str] = frozenset()
    """The keys that are scheduled for deletion."""

    def explains(self, key: str) -> bool:
        """Whether the database knows to which attempt a result belongs, so that nothing has to be done about it."""
        # An attempt that runs in the restored rows may have made its result since then.
        return key in self.doomed or (key in self.attempts and (self.leased or not self._runs(key)))

    def _runs(self, key: str) -> bool:
        made = parse_result_key(key)
        return self.record is not None and made is not None and made.attempt_id == self.record.job.lease_owner


def judge_upload(key: str, video_id: str, known: Known, new: NewVideo | None) -> Finding | None:
    """Decide about an object under `uploads/`. `new` is the video of which the object's note speaks, or None.

    Returns None if the object needs nothing.
    """
    if known.record is None:
        if key in known.doomed:
            return None
        if new is None:
            message = "It belongs to no video and does not say whose it is. `anb adopt` can make a video of it."
            return Finding(Action.UNKNOWN_UPLOAD, video_id, key, message)
        message = f"The video {new.title!r} of {new.owner} is not in the database."
        return Finding(Action.RESTORE_UPLOAD, video_id, key, message)
    if known.upload_ended and known.record.video.source_key == key:
        return Finding(Action.COMPLETE_UPLOAD, video_id, key, "The upload is not complete in the database.")
    return None


def judge_results(
    video_id: str, found: Sequence[tuple[str, int, str]], known: Known
) -> list[tuple[Finding, RestoredResult | None]]:
    """Decide about the results of one video: (key, size in bytes, note) of each that the database does not explain.

    The result of the last attempt becomes current, if the job has none. The others are deleted.
    """
    if known.record is None:
        message = "Neither its video nor the uploaded file exists."
        return [(Finding(Action.UNKNOWN_RESULT, video_id, key, message), None) for key, _, _ in found]
    chosen = _choose(found, known)
    judged: list[tuple[Finding, RestoredResult | None]] = []
    for key, _, _ in found:
        if chosen and key == chosen.result.key:
            message = f"The worker {chosen.worker} made it, but the database knows of no result of the video."
            judged.append((Finding(Action.RESTORE_RESULT, video_id, key, message), chosen))
        elif key not in known.attempts:
            message = "It is not the result of its video, and no attempt in the database made it."
            judged.append((Finding(Action.DELETE_RESULT, video_id, key, message), None))
    return judged


def judge_video(record: Record, *, has_source: bool, has_result: bool) -> Finding | None:
    """Decide about a video by its objects. `has_result` does not matter if the job has no result."""
    video, job = record.video, record.job
    if job.result and not has_result:
        message = "It is processed, but its result is gone."
        if not has_source:
            message = (
                "It is processed, but its result and the uploaded file are gone. If it was not deleted after the"
                " backup, the bucket has lost them: the attempts will fail with source_missing."
            )
        return Finding(Action.RENDER_AGAIN, video.id, job.result.key, message)
    if video.source and not has_source:
        fate = "it can't be retried" if job.status.terminal else "its attempts will fail with source_missing"
        return Finding(Action.SOURCE_MISSING, video.id, video.source_key, f"It is {job.status}, but {fate}.")
    return None


def _choose(found: Sequence[tuple[str, int, str]], known: Known) -> RestoredResult | None:
    """Return the result that becomes current: that of the last attempt, if the job can still get a result."""
    assert known.record is not None  # noqa: S101 - only called for a video that exists
    job = known.record.job
    if known.deleted or known.leased or job.result or (job.status is Status.UPLOADING and not known.upload_ended):
        return None
    restorable: list[tuple[int, RestoredResult]] = []
    for key, size, note in found:
        made, read = parse_result_key(key), read_result(note, key, size)
        if made and read and (made.fence > job.fence or made.attempt_id == job.lease_owner):
            restorable.append((made.fence, RestoredResult(*read)))
    return max(restorable, key=lambda one: one[0])[1] if restorable else None
