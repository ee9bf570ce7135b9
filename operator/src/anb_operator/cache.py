"""The VideoJobs as they were seen last, found by their video."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable

from anb_operator.naming import video_id_of
from anb_operator.videojob import VideoJob

Key = tuple[str, str]


class VideoJobCache:
    """Kept current by the watch, by the answers to our own writes, and by lists now and then.

    What we write comes back by the watch, which shows what happens in its order: `silence` tells for how long something
    that we wrote has not come, nor anything newer.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._videojobs: dict[Key, VideoJob] = {}
        self._by_video: defaultdict[str, dict[Key, None]] = defaultdict(dict)
        self._shown = 0
        self._awaited: dict[Key, tuple[int, float]] = {}
        # By UID: as of which version it was dropped, while the watch may still show how it was before.
        self._dropped: dict[str, int] = {}
        # While a list is awaited: what has changed since it was asked for.
        self._changed: set[Key] | None = None

    def __len__(self) -> int:
        return len(self._videojobs)

    def of(self, video_id: str) -> list[VideoJob]:
        """All VideoJobs that speak of this video."""
        return [self._videojobs[key] for key in self._by_video.get(video_id, ())]

    def get(self, key: Key) -> VideoJob | None:
        """The one with this namespace and name."""
        return self._videojobs.get(key)

    def unfinished(self) -> list[str]:
        """The videos that are not over, as far as their VideoJobs say."""
        shown = self._videojobs.values()
        return [_video_of(videojob) for videojob in shown if not (phase := videojob.status.phase) or not phase.terminal]

    def seen(self, videojob: VideoJob) -> str | None:
        """The watch shows it; the id of its video, None if it is just as it was known: most often we wrote it."""
        self._show(videojob)
        if 0 < _version(videojob) <= self._dropped.get(videojob.metadata.uid, 0):
            # How it was before it went; its end is still to be shown.
            return None
        return self._put(videojob) if self._differs(videojob) else None

    def gone(self, videojob: VideoJob) -> str:
        """The watch says that it was deleted; the id of its video."""
        self._show(videojob)
        self.drop(videojob)
        return _video_of(videojob)

    def created(self, videojob: VideoJob) -> None:
        """The API server answered with this when we made it."""
        self._put(videojob)
        self._await(videojob)

    def written(self, videojob: VideoJob) -> None:
        """The API server answered a change of ours with this."""
        known = self._videojobs.get(videojob.key)
        # One that is gone by now, as the watch has shown already, must not come back by this.
        if known is not None and known.metadata.uid == videojob.metadata.uid and self._differs(videojob):
            self._put(videojob)
            self._await(videojob)

    def drop(self, videojob: VideoJob) -> None:
        """It is not there any more."""
        key = videojob.key
        self._note(key)
        known = self._videojobs.get(key)
        if known is None or known.metadata.uid != videojob.metadata.uid:
            return
        del self._videojobs[key]
        self._dropped[known.metadata.uid] = max(_version(known), _version(videojob))
        self._awaited.pop(key, None)
        keys = self._by_video[_video_of(known)]
        del keys[key]
        if not keys:
            del self._by_video[_video_of(known)]

    def begin_list(self) -> None:
        """A list is asked for: of what changes from now on it may tell how it was before."""
        self._changed = set()

    def replace(self, listed: Iterable[VideoJob]) -> set[str]:
        """A list shows all that there was when it was begun; the ids of the videos of which something was news."""
        newer, self._changed = self._changed or set(), None
        news, there = set(), set()
        for videojob in listed:
            there.add(videojob.key)
            if videojob.key not in newer and self._differs(videojob):
                news.add(self._put(videojob))
        for key in self._videojobs.keys() - there - newer:
            videojob = self._videojobs[key]
            self.drop(videojob)
            news.add(_video_of(videojob))
        return news

    def silence(self) -> float:
        """For how many seconds the watch owes us something."""
        return self._monotonic() - min(since for _, since in self._awaited.values()) if self._awaited else 0.0

    def _show(self, videojob: VideoJob) -> None:
        self._shown = max(self._shown, _version(videojob))
        self._awaited = {key: awaited for key, awaited in self._awaited.items() if awaited[0] > self._shown}
        self._dropped = {uid: version for uid, version in self._dropped.items() if version >= self._shown}

    def _await(self, videojob: VideoJob) -> None:
        if (version := _version(videojob)) > self._shown:
            self._awaited.setdefault(videojob.key, (version, self._monotonic()))

    def _differs(self, videojob: VideoJob) -> bool:
        known = self._videojobs.get(videojob.key)
        return known is None or known.metadata.resource_version != videojob.metadata.resource_version

    def _note(self, key: Key) -> None:
        if self._changed is not None:
            self._changed.add(key)

    def _put(self, videojob: VideoJob) -> str:
        video_id = _video_of(videojob)
        key = videojob.key
        self._note(key)
        known = self._videojobs.get(key)
        if known is not None and _version(known) > _version(videojob):
            # An answer overtook the watch.
            return video_id
        if known is not None and _video_of(known) != video_id:
            # Another object of its name, or one that can't be read any more.
            self.drop(known)
        self._videojobs[key] = videojob
        self._by_video[video_id][key] = None
        return video_id


def _video_of(videojob: VideoJob) -> str:
    return video_id_of(videojob.spec, videojob.metadata.uid)


def _version(videojob: VideoJob) -> int:
    version = videojob.metadata.resource_version
    # Kubernetes' own storage counts; from another one the last word is taken.
    return int(version) if version.isdecimal() else 0
