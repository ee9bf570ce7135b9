"""The resync: every five minutes, lists all VideoJobs, and the videos that may need a VideoJob.

If the watch or the feed missed a change, the resync finds the change.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Protocol

import structlog

from anb_core.domain.dead_letters import DeadLetterFilter, DeadLetterPage
from anb_core.domain.errors import AnbError
from anb_core.domain.status import TERMINAL, Status
from anb_core.ports.store import DeadLetters, Page, Reading
from anb_operator.cache import VideoJobCache
from anb_operator.kube import Missing, VideoJobs
from anb_operator.workqueue import WorkQueue

RESYNC_SECONDS = 300.0
"""Seconds between two resyncs."""

PAUSE_SECONDS = 2.0
"""Seconds between a failed list request and the next try."""

PAGE = 500
"""Number of videos in one read of the database."""

UNFINISHED = frozenset(Status) - TERMINAL


class ResyncStore(Reading, DeadLetters, Protocol):
    """The methods of the store that the resync uses."""


_log = structlog.get_logger(__name__)


class Resync:
    """Lists all VideoJobs, all unfinished videos and all open dead letters, and adds their videos to the queue.

    `report` is called after each read of the database, with the read's error or None.
    """

    def __init__(
        self,
        kube: VideoJobs,
        store: ResyncStore,
        cache: VideoJobCache,
        queue: WorkQueue,
        *,
        threads: Executor,
        report: Callable[[Exception | None], None],
    ) -> None:
        self._kube = kube
        self._store = store
        self._cache = cache
        self._queue = queue
        self._threads = threads
        self._report = report

    async def wait_for_videojobs(self, *, beat: Callable[[], None]) -> None:
        """Wait until the CRD is installed and VideoJobs can be listed, then fill the cache. Each try calls `beat`."""
        logged = None
        while True:
            beat()
            try:
                await self._kube.ping()
                await self.fill_cache()
            except AnbError as error:
                if isinstance(error, Missing):
                    # The CRD was deleted, which deletes all VideoJobs. So empty the cache.
                    self._cache.begin_list()
                    self._cache.replace(())
                if error.message != logged:
                    _log.warning("waiting for VideoJobs", reason=error.message)
                    logged = error.message
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return

    async def fill_cache(self) -> None:
        """List all VideoJobs, store the VideoJobs in the cache, and queue the videos whose VideoJobs changed."""
        self._cache.begin_list()
        for video_id in self._cache.replace(await self._kube.list_videojobs()):
            self._queue.add_to_compare(video_id)

    async def compare(self) -> None:
        """Queue all videos that are unfinished in the database or in the cache, now and every five minutes.

        A video with an open dead letter counts as unfinished, because a person still has to handle it.
        """
        while True:
            try:
                unfinished = await asyncio.get_running_loop().run_in_executor(self._threads, self._unfinished)
            except Exception as error:  # noqa: BLE001 - reported, and the rest goes on
                self._report(error)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self._report(None)
            for video_id in (*unfinished, *self._cache.unfinished()):
                self._queue.add_to_compare(video_id)
            await asyncio.sleep(RESYNC_SECONDS)

    async def relist(self) -> None:
        """List all VideoJobs every five minutes, until cancelled."""
        while True:
            await asyncio.sleep(RESYNC_SECONDS)
            try:
                await self.fill_cache()
            except Exception as error:  # noqa: BLE001 - reported, and tried again
                _log.warning("VideoJobs not listed", reason=str(error) or type(error).__name__)

    def _unfinished(self) -> list[str]:
        return [*self._in_work(), *self._dead_lettered()]

    def _in_work(self) -> Iterator[str]:
        after: Page | None = None
        while True:
            records = self._store.listing(owner=None, statuses=UNFINISHED, after=after, limit=PAGE)
            yield from (record.video.id for record in records)
            if len(records) < PAGE:
                return
            after = Page(records[-1].video.created_at, records[-1].video.id)

    def _dead_lettered(self) -> Iterator[str]:
        after: DeadLetterPage | None = None
        while True:
            letters = self._store.dead_letters(DeadLetterFilter(state="open"), after=after, limit=PAGE)
            yield from (letter.video_id for letter in letters if letter.video_id)
            if len(letters) < PAGE:
                return
            after = DeadLetterPage(letters[-1].created_at, letters[-1].id)
