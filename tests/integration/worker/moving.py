"""Moves a deployment with an API and two workers from one queue to another, while uploads keep coming."""

import signal
import sys
import threading
from collections.abc import Mapping
from typing import Self

import httpx

from anb_core.adapters.system import new_id
from anb_core.domain.model import Ending, Scope
from anb_core.domain.status import Status
from anb_core.testing.promises import check_promises
from anb_core.usecases.tokens import create_token
from tests.integration.worker.conftest import LEASE, Site, Worker
from tests.support import eventually
from tests.support.api import VIDEO, answers
from tests.support.tether import free_port

PAUSE = 0.2
"""Time between two uploads, in seconds."""


class Moving:
    """A deployment whose API and workers are replaced one by one. A thread uploads videos at a steady rate."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.statuses: list[int] = []
        """The HTTP status of each upload."""
        self.killed = 0
        """The number of workers that were killed in mid-render."""
        self._secret = create_token(site.parts.store, owner="ana", scope=Scope.USER, new_id=new_id).secret
        self._api: Worker | None = None
        self._workers: list[Worker] = []
        self._stop = threading.Event()
        self._url = ""
        self._thread = threading.Thread(target=self._upload_steadily)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def begin(self, queues: Mapping[str, str]) -> None:
        """Start an API and two workers with the given environment variables, and begin to upload."""
        self.site.let_go()
        self._replace_api(queues)
        self._workers = [self._worker(queues) for _ in range(2)]
        self._thread.start()
        self._until(uploads=10, processed=10)

    def move(self, queues: Mapping[str, str]) -> None:
        """Replace the API and both workers by processes with other environment variables.

        One old worker is killed in mid-render. The other one is stopped in mid-render, and finishes its job.
        Some messages wait meanwhile.
        """
        victim, other = self._workers
        self.site.hold(victim)
        self.site.hold(other)
        self._until(uploads=5)
        self._replace_api(queues)
        self._workers = [self._worker(queues) for _ in range(2)]
        victim.kill()
        self.killed += 1
        other.send(signal.SIGTERM)
        eventually(lambda: "no more jobs are begun" in other.log)
        self.site.let_go()
        assert other.exit_code() == 0
        self._until(uploads=10, processed=10)

    def finish(self) -> None:
        """Stop the uploads, let the time of the promise L1 pass, and check that each video was processed once."""
        self._stop.set()
        self._thread.join()
        assert set(self.statuses) == {202}
        store, site = self.site.parts.store, self.site
        eventually(self._only_the_dead_have_work, every=0.1)
        site.database.pass_time(LEASE)
        for video_id in site.receipts:
            site.until(video_id, Status.PROCESSED)
            attempts = store.history(video_id).attempts
            assert [one.ending for one in attempts].count(Ending.PROCESSED) == 1
            assert len(site.results(video_id)) == 1
        assert sum(site.job(video_id).counters.lost for video_id in site.receipts) == self.killed
        check_promises(site.evidence(), site.policy, at_rest=True)

    def _until(self, *, uploads: int, processed: int = 0) -> None:
        """Wait until the given numbers of further uploads got their response and of further videos are processed."""
        uploads, processed = len(self.statuses) + uploads, self._processed() + processed
        eventually(lambda: len(self.statuses) >= uploads and self._processed() >= processed, every=0.1)

    def _only_the_dead_have_work(self) -> bool:
        """Return whether each unfinished job is leased by a worker that was killed."""
        living = {worker.name for worker in self._workers}
        unfinished = self.site.parts.store.listing(owner="ana", statuses={Status.UPLOADED, Status.PROCESSING})
        return all(one.job.worker and one.job.worker not in living for one in unfinished)

    def _processed(self) -> int:
        return self.site.parts.store.count_by_status().get(Status.PROCESSED, 0)

    def _replace_api(self, queues: Mapping[str, str]) -> None:
        """Start a new API, send it the next uploads, and stop the old one."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        environment = {"ANB_API_LISTEN": f"127.0.0.1:{port}", "ANB_SWEEP_SECONDS": "1", **queues}
        api = self.site.start([sys.executable, "-m", "anb_api"], environment)
        eventually(lambda: answers(url) or api.process.poll() is not None)
        self._url, old, self._api = url, self._api, api
        if old is not None:
            old.send(signal.SIGTERM)
            assert old.exit_code() == 0

    def _worker(self, queues: Mapping[str, str]) -> Worker:
        return self.site.held_worker(ANB_SWEEP_SECONDS="1", **queues)

    def _upload_steadily(self) -> None:
        headers = {"Authorization": f"Bearer {self._secret}"}
        while not self._stop.wait(PAUSE):
            # A new connection for each upload, as a load balancer chooses a process for each connection.
            response = httpx.post(
                f"{self._url}/api/videos/upload",
                headers=headers,
                data={"title": "A title"},
                files={"video_file": ("clip.mp4", VIDEO)},
                timeout=60,
                trust_env=False,
            )
            if response.status_code == 202:
                self.site.receipts.add(response.json()["video_id"])
            self.statuses.append(response.status_code)
