"""Reconcile the database with the bucket, after the database was restored to an earlier state.

A reconciliation examines the uploads in the bucket, then the results in the bucket, then the videos in the database.
Each call examines a part. A repeated call finds only what is left, so a reconciliation may be interrupted at any time.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import structlog

from anb_core.domain.errors import Conflict, Invalid, NotFound, Withheld
from anb_core.domain.keys import PROCESSED, UPLOADS, parse_result_key, parse_upload_key, upload_key
from anb_core.domain.lifecycle import new_record
from anb_core.domain.model import NewVideo, Record, Source
from anb_core.domain.object_notes import read_upload
from anb_core.domain.reconciliation import Action, Finding, Known, judge_results, judge_upload, judge_video
from anb_core.ports.objects import Objects, StoredObject
from anb_core.ports.store import Clock, Restoring, Uploads
from anb_core.usecases.adopt_many import Map
from anb_core.usecases.visibility import Caller, check_operator

OBJECTS = 500
"""Maximum number of objects that one call examines."""

RECORDS = 100
"""Maximum number of videos whose objects one call looks for, with up to two requests to the bucket for each."""

VIDEOS = "videos/"
"""Beginning of the positions in the list of videos. The other positions are keys of objects."""

_Correction = tuple[Finding, Callable[[], object] | None]
"""A difference, and the function that removes it. None if it is only reported."""

_Step = tuple[int, list[_Correction], str | None]
"""How many objects or videos a step examined, what it found, and the position of the next step. None after the last."""

_log = structlog.get_logger(__name__)


class ReconcileStore(Restoring, Uploads, Clock, Protocol):
    """The protocols of the store that this use case needs."""


@dataclass(slots=True)
class ReconcileReport:
    """The outcome of one call of `Reconcile`."""

    examined: int = 0
    """Number of objects and videos that were examined."""
    findings: list[Finding] = field(default_factory=list)
    """The differences, and what was done about each. In a dry run: what would be done."""
    after: str | None = None
    """Position at which the next call begins. None if everything was examined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconcile:
    """Finds differences between the database and the bucket, and removes those that it can remove."""

    store: ReconcileStore
    objects: Objects
    wake_relay: Callable[[], None]
    new_id: Callable[[], str]
    """Returns a new id for a job."""

    def __call__(self, caller: Caller, *, after: str | None, dry_run: bool, each: Map) -> ReconcileReport:
        """Examine the next objects or videos, from the position `after` of the previous report, or from the beginning.

        A dry run changes nothing. The bucket is read through `each`. An `each` with several threads saves time.
        If the database or the bucket stops answering, an error is raised, and the caller may repeat the call.

        Raises:
            Forbidden: `scope_missing` if the caller's token does not have the scope `ops`.
            Invalid: `cursor_invalid` if `after` does not come from a report.
        """
        check_operator(caller, "Reconciliations")
        begin = after or UPLOADS
        steps = {UPLOADS: self._uploads, PROCESSED: self._results, VIDEOS: self._videos}
        step = next((step for part, step in steps.items() if begin.startswith(part)), None)
        if step is None:
            raise Invalid("cursor_invalid", f"{begin!r} does not come from a report about a reconciliation.")
        examined, corrections, following = step(begin, caller, each)
        report = ReconcileReport(examined, after=following)
        for finding, correct in corrections:
            if dry_run or _is_done(correct):
                report.findings.append(finding)
        if not dry_run and report.findings:
            self.wake_relay()
            _log.info("reconciled", findings=len(report.findings), position=begin, by=caller.owner)
        return report

    def _uploads(self, begin: str, _: Caller, each: Map) -> _Step:
        listed = self.objects.listing(UPLOADS, after=begin, limit=OBJECTS)
        ids = {one.key: video_id for one in listed if (video_id := parse_upload_key(one.key))}
        known = self.store.known_videos(list(ids.values()))
        lost = [video_id for video_id in ids.values() if video_id in known and known[video_id].record is None]
        named = dict(zip(lost, each(self._new_video, lost), strict=True))
        corrections: list[_Correction] = []
        for one in listed:
            video_id = ids.get(one.key)
            if video_id is None or video_id not in known:
                continue
            new, source = named.get(video_id), Source(one.size)
            if finding := judge_upload(one.key, video_id, known[video_id], new):
                corrections.append((finding, self._completion(finding, source, new)))
        return len(listed), corrections, listed[-1].key if len(listed) == OBJECTS else PROCESSED

    def _results(self, begin: str, caller: Caller, each: Map) -> _Step:
        listed = self.objects.listing(PROCESSED, after=begin, limit=OBJECTS)
        full = len(listed) == OBJECTS
        groups: defaultdict[str, list[StoredObject]] = defaultdict(list)
        for one in listed:
            if made := parse_result_key(one.key):
                groups[made.video_id].append(one)
        if full and len(groups) > 1:
            # The next call examines the last video, because the list may not have all of its results.
            last = groups.popitem()[1][0].key
            listed = [one for one in listed if one.key < last]
        known = dict(self.store.known_videos(list(groups)))
        unexplained = {
            video_id: [one.key for one in found if not known[video_id].explains(one.key)]
            for video_id, found in groups.items()
            if video_id in known
        }
        lost = [video_id for video_id, keys in unexplained.items() if keys and known[video_id].record is None]
        # A dry run has restored no uploads, so judge their results as if it had.
        now = self.store.now()
        for video_id, new in zip(lost, each(self._new_video, lost), strict=True):
            known[video_id] = Known(record=new_record(new, now, Source(0)) if new else None)
        keys = [key for keys in unexplained.values() for key in keys]
        heads = dict(zip(keys, each(self._head, keys), strict=True))
        corrections: list[_Correction] = []
        for video_id, keys in unexplained.items():
            found = [(one.key, one.size, one.note) for one in map(heads.get, keys) if isinstance(one, StoredObject)]
            corrections += self._result_corrections(video_id, found, known[video_id], caller)
        return len(listed), corrections, listed[-1].key if full else VIDEOS

    def _videos(self, begin: str, _: Caller, each: Map) -> _Step:
        records = self.store.videos_after(begin.removeprefix(VIDEOS), limit=RECORDS)
        corrections: list[_Correction] = []
        for finding in each(self._judge_video, records):
            if finding:
                again = finding.action is Action.RENDER_AGAIN
                corrections.append((finding, partial(self.store.render_again, finding.video_id) if again else None))
        return len(records), corrections, f"{VIDEOS}{records[-1].video.id}" if len(records) == RECORDS else None

    def _judge_video(self, record: Record) -> Finding | None:
        key, result = record.video.source_key, record.job.result
        if record.video.source is None:
            return None
        has_source, has_result = (self._head(one) is not None for one in (key, result.key if result else key))
        return judge_video(record, has_source=has_source, has_result=has_result)

    def _new_video(self, video_id: str) -> NewVideo | None:
        """Return the video that an uploaded file says it is. None if there is no file, or it does not say so."""
        stored = self._head(upload_key(video_id))
        return read_upload(stored.note, video_id, self.new_id()) if isinstance(stored, StoredObject) else None

    def _head(self, key: str) -> StoredObject | Withheld | None:
        try:
            return self.objects.head(key)
        except Withheld as withheld:
            return withheld

    def _completion(self, finding: Finding, source: Source, new: NewVideo | None) -> Callable[[], object] | None:
        if finding.action is Action.COMPLETE_UPLOAD:
            return partial(self.store.complete_upload, finding.video_id, source)
        return partial(self.store.submit_existing, new, source) if new else None

    def _result_corrections(
        self, video_id: str, found: Sequence[tuple[str, int, str]], known: Known, caller: Caller
    ) -> Iterator[_Correction]:
        for finding, restored in judge_results(video_id, found, known):
            if restored:
                yield (
                    finding,
                    partial(
                        self.store.restore_result, video_id, restored.result, worker=restored.worker, by=caller.owner
                    ),
                )
            else:
                discards = finding.action is Action.DELETE_RESULT
                yield finding, partial(self.store.discard_results, video_id, [finding.key]) if discards else None


def _is_done(correct: Callable[[], object] | None) -> bool:
    """Remove a difference. Returns False if another program has removed it meanwhile."""
    try:
        if correct:
            correct()
    except (Conflict, NotFound):
        return False
    return True
