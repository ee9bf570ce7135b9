"""A cache of the VideoJobs that the operator watches, indexed by video."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable

from anb_operator.naming import video_id_of
from anb_operator.videojob import VideoJob

Key = tuple[str, str]
"""Namespace and name of a VideoJob."""


class VideoJobCache:
    """The last known version of each VideoJob, from the watch, from responses to the operator's writes, and from lists.

    The watch shows all changes in order, including the operator's own writes.
    If the watch does not show such a write, the watch may hang.
    `silence` returns the seconds since the oldest write that the watch has not shown.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._videojobs: dict[Key, VideoJob] = {}
        self._by_video: defaultdict[str, dict[Key, None]] = defaultdict(dict)
        # Highest resource version that the watch has shown.
        self._shown = 0
        # The operator's writes that the watch has not shown yet.
        # Each value is the resource version and the monotonic time of the VideoJob's first such write.
        self._awaited: dict[Key, tuple[int, float]] = {}
        # The last version of each dropped VideoJob, by UID. The watch may still show older versions of such a VideoJob.
        self._dropped: dict[str, int] = {}
        # Keys of the VideoJobs that changed after the last list request. None when no list request is in progress.
        self._changed: set[Key] | None = None

    def __len__(self) -> int:
        return len(self._videojobs)

    def of(self, video_id: str) -> list[VideoJob]:
        """Return all VideoJobs of a video."""
        return [self._videojobs[key] for key in self._by_video.get(video_id, ())]

    def get(self, key: Key) -> VideoJob | None:
        """Return the VideoJob with this namespace and name, or None."""
        return self._videojobs.get(key)

    def unfinished(self) -> list[str]:
        """Return the ids of the videos whose VideoJobs show no terminal phase."""
        shown = self._videojobs.values()
        return [_video_of(videojob) for videojob in shown if not (phase := videojob.status.phase) or not phase.terminal]

    def seen(self, videojob: VideoJob) -> str | None:
        """Store a VideoJob that the watch shows as added or modified.

        Returns the id of the VideoJob's video, or None if the cache already has this version.
        """
        self._show(videojob)
        if 0 < _version(videojob) <= self._dropped.get(videojob.metadata.uid, 0):
            # Ignore an old version of a dropped VideoJob. The watch will show the VideoJob's deletion next.
            return None
        return self._put(videojob) if self._differs(videojob) else None

    def deleted(self, videojob: VideoJob) -> str:
        """Drop a VideoJob that the watch shows as deleted. Returns the id of the VideoJob's video."""
        self._show(videojob)
        self.drop(videojob)
        return _video_of(videojob)

    def created(self, videojob: VideoJob) -> None:
        """Store a VideoJob that the operator created, as the API server returned it."""
        self._put(videojob)
        self._await(videojob)

    def written(self, videojob: VideoJob) -> None:
        """Store a VideoJob that the operator changed, as the API server returned it."""
        cached = self._videojobs.get(videojob.key)
        # If the watch has already shown the VideoJob's deletion, a late response must not add the VideoJob again.
        if cached is not None and cached.metadata.uid == videojob.metadata.uid and self._differs(videojob):
            self._put(videojob)
            self._await(videojob)

    def drop(self, videojob: VideoJob) -> None:
        """Remove a VideoJob that no longer exists."""
        key = videojob.key
        self._note(key)
        cached = self._videojobs.get(key)
        if cached is None or cached.metadata.uid != videojob.metadata.uid:
            return
        del self._videojobs[key]
        self._dropped[cached.metadata.uid] = max(_version(cached), _version(videojob))
        self._awaited.pop(key, None)
        keys = self._by_video[_video_of(cached)]
        del keys[key]
        if not keys:
            del self._by_video[_video_of(cached)]

    def begin_list(self) -> None:
        """Record that the operator requests a list of VideoJobs. Changes after the request override the list."""
        self._changed = set()

    def replace(self, listed: Iterable[VideoJob]) -> set[str]:
        """Replace the cache's content with a complete list of VideoJobs, requested after the last call of `begin_list`.

        Returns the ids of the videos whose VideoJobs differ from the cache.
        """
        newer, self._changed = self._changed or set(), None
        changed_videos, listed_keys = set(), set()
        for videojob in listed:
            listed_keys.add(videojob.key)
            if videojob.key not in newer and self._differs(videojob):
                changed_videos.add(self._put(videojob))
        for key in self._videojobs.keys() - listed_keys - newer:
            videojob = self._videojobs[key]
            self.drop(videojob)
            changed_videos.add(_video_of(videojob))
        return changed_videos

    def silence(self) -> float:
        """Return the seconds since the oldest write that the watch has not shown. 0.0 when all writes were shown."""
        return self._monotonic() - min(since for _, since in self._awaited.values()) if self._awaited else 0.0

    def _show(self, videojob: VideoJob) -> None:
        self._shown = max(self._shown, _version(videojob))
        self._awaited = {key: awaited for key, awaited in self._awaited.items() if awaited[0] > self._shown}
        self._dropped = {uid: version for uid, version in self._dropped.items() if version >= self._shown}

    def _await(self, videojob: VideoJob) -> None:
        if (version := _version(videojob)) > self._shown:
            self._awaited.setdefault(videojob.key, (version, self._monotonic()))

    def _differs(self, videojob: VideoJob) -> bool:
        cached = self._videojobs.get(videojob.key)
        return cached is None or cached.metadata.resource_version != videojob.metadata.resource_version

    def _note(self, key: Key) -> None:
        if self._changed is not None:
            self._changed.add(key)

    def _put(self, videojob: VideoJob) -> str:
        video_id = _video_of(videojob)
        key = videojob.key
        self._note(key)
        cached = self._videojobs.get(key)
        if cached is not None and _version(cached) > _version(videojob):
            # The cache already has a newer version, from the response to a write.
            return video_id
        if cached is not None and _video_of(cached) != video_id:
            # A new VideoJob has replaced the cached one under the same name, or the spec has become unreadable.
            self.drop(cached)
        self._videojobs[key] = videojob
        self._by_video[video_id][key] = None
        return video_id


def _video_of(videojob: VideoJob) -> str:
    return video_id_of(videojob.spec, videojob.metadata.uid)


def _version(videojob: VideoJob) -> int:
    version = videojob.metadata.resource_version
    # The resource versions of etcd are increasing numbers. Other storage may use text, which has no order.
    # For text, return 0. All versions are then equal, and each VideoJob from the API server replaces the cached one.
    return int(version) if version.isdecimal() else 0
