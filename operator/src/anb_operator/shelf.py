"""The VideoJobs as they were seen last, found by their video."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable

from anb_operator.naming import video_id_of
from anb_operator.videojob import VideoJob

Key = tuple[str, str]


class Shelf:
    """Kept current by the watch, by the answers to our own writes, and by lists now and then.

    What we write comes back by the watch: `silence` tells for how long something has not.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._videojobs: dict[Key, VideoJob] = {}
        self._by_video: defaultdict[str, dict[Key, None]] = defaultdict(dict)
        self._awaited: dict[Key, float] = {}

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
        self._awaited.pop(videojob.key, None)
        return self._put(videojob) if self._differs(videojob) else None

    def gone(self, videojob: VideoJob) -> str:
        """The watch says that it was deleted; the id of its video."""
        self._awaited.pop(videojob.key, None)
        known = self._videojobs.get(videojob.key)
        if known is not None and known.metadata.uid == videojob.metadata.uid:
            self.drop(known)
        return _video_of(videojob)

    def written(self, videojob: VideoJob) -> None:
        """The API server answered a write of ours with this."""
        if not self._differs(videojob):
            return
        self._put(videojob)
        if self._videojobs[videojob.key] is videojob:
            # Otherwise the watch was quicker, and has nothing more to show.
            self._awaited.setdefault(videojob.key, self._monotonic())

    def drop(self, videojob: VideoJob) -> None:
        """It is not there any more."""
        if self._videojobs.pop(videojob.key, None) is None:
            return
        self._awaited.pop(videojob.key, None)
        keys = self._by_video[_video_of(videojob)]
        keys.pop(videojob.key, None)
        if not keys:
            del self._by_video[_video_of(videojob)]

    def replace(self, listed: Iterable[VideoJob]) -> set[str]:
        """A list shows all that there is; the ids of the videos of which something was news."""
        news, there = set(), set()
        for videojob in listed:
            there.add(videojob.key)
            if self._differs(videojob):
                news.add(self._put(videojob))
        for key in self._videojobs.keys() - there:
            videojob = self._videojobs[key]
            self.drop(videojob)
            news.add(_video_of(videojob))
        return news

    def silence(self) -> float:
        """For how many seconds the watch owes us something."""
        return self._monotonic() - min(self._awaited.values()) if self._awaited else 0.0

    def _differs(self, videojob: VideoJob) -> bool:
        known = self._videojobs.get(videojob.key)
        return known is None or known.metadata.resource_version != videojob.metadata.resource_version

    def _put(self, videojob: VideoJob) -> str:
        video_id = _video_of(videojob)
        known = self._videojobs.get(videojob.key)
        if known is not None and known.metadata.uid != videojob.metadata.uid:
            self.drop(known)
        elif known is not None and _version(known) > _version(videojob):
            # An answer overtook the watch.
            return video_id
        self._videojobs[videojob.key] = videojob
        self._by_video[video_id][videojob.key] = None
        return video_id


def _video_of(videojob: VideoJob) -> str:
    return video_id_of(videojob.spec, videojob.metadata.uid)


def _version(videojob: VideoJob) -> int:
    version = videojob.metadata.resource_version
    # Kubernetes' own storage counts; from another one the last word is taken.
    return int(version) if version.isdecimal() else 0
