"""Moves a deployment with an API and two workers from one queue to another, while uploads keep coming."""

import signal
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Self

import httpx
from sqlalchemy import update

from anb_core.adapters.database.tables import jobs
from anb_core.adapters.system import new_id
from anb_core.domain.model import Ending, Scope
from anb_core.domain.status import Status
from anb_core.testing.promises import check_promises
from anb_core.usecases.tokens import create_token
from tests.integration.worker.conftest import Site, Worker
from tests.support import eventually
from tests.support.api import VIDEO, answers
from tests.support.tether import free_port

PAUSE = 0.3
"""Time between two uploads, in seconds."""


class Moving:
    """A deployment whose API and workers are replaced one by one. A thread uploads videos at a steady rate."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.statuses: list[int] = []
        """The HTTP status of each upload."""
        self.killed = 0
        """The number of workers that were killed in mid-render."""
        secret = create_token(site.parts.store, owner="ana", scope=Scope.OPS, new_id=new_id).secret
        self._headers = {"Authorization": f"Bearer {secret}"}
        self._api: Worker | None = None
        self._workers: list[Worker] = []
        self._stop = threading.Event()
        self._url = ""
        self._switching = threading.Lock()
        """Held during an upload and while the API is replaced, so that no upload is sent to a stopped API."""
        self._thread = threading.Thread(target=self._upload_steadily)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def start_workers(self, queues: Mapping[str, str]) -> None:
        """Start two workers with the given environment variables."""
        self.site.let_go()
        self._workers = [self._worker(queues) for _ in range(2)]

    def start_api(self, queues: Mapping[str, str]) -> None:
        """Start an API with the given environment variables, and begin to upload."""
        self._replace_api(queues)
        self._thread.start()
        self._until(uploads=5, processed=5)

    def move(self, queues: Mapping[str, str], *, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Replace the API and both workers by processes with other environment variables.

        One old worker is killed in mid-render. The other one is stopped in mid-render, and finishes its job.
        `meanwhile` is called while messages wait and no worker receives them.
        """
        victim, other = self._workers
        self.site.hold(victim)
        self.site.hold(other)
        self._until(uploads=5)
        self._replace_api(queues)
        self._workers = [self._worker(queues) for _ in range(2)]
        victim.kill()
        self.killed += 1
        self._end_leases(victim)
        other.send(signal.SIGTERM)
        eventually(lambda: "no more jobs are begun" in other.log)
        meanwhile()
        self.site.let_go()
        assert other.exit_code() == 0
        self._until(uploads=5, processed=5)

    def finish(self, queues: Mapping[str, str]) -> None:
        """Stop the uploads, let time pass, start another worker, and check that each video was processed once.

        So much time passes that the sweep sends every lost message again, even if other jobs come first.
        The present workers are stopped first, because this time would end their leases.
        """
        self._stop.set()
        self._thread.join()
        assert set(self.statuses) == {202}
        for worker in self._workers:
            _stop(worker)
        self.site.database.pass_time(timedelta(hours=20))
        self._workers, lost = [self._worker(queues)], 0
        for record in self.site.parts.store.listing(owner=None, limit=1000):
            job = self.site.until(record.video.id, Status.PROCESSED)
            attempts = self.site.parts.store.history(record.video.id).attempts
            assert [one.ending for one in attempts] == [Ending.LOST] * job.counters.lost + [Ending.PROCESSED]
            lost += job.counters.lost
        assert lost == self.killed
        check_promises(self.site.evidence(), self.site.policy, at_rest=True)

    def broker(self, role: str) -> dict[str, Any] | None:
        """Return what `anb broker status` shows of the queue with the given role. None if no queue has this role."""
        response = httpx.get(f"{self._url}/api/brokers", headers=self._headers, timeout=60, trust_env=False)
        return next((broker for broker in response.json()["brokers"] if broker["role"] == role), None)

    def _end_leases(self, dead: Worker) -> None:
        """Let the leases of a killed worker expire."""
        ended = update(jobs).where(jobs.c.worker == dead.name).values(lease_expires_at=self.site.parts.store.now())
        with self.site.database.database.transaction() as connection:
            connection.execute(ended)

    def _until(self, *, uploads: int, processed: int = 0) -> None:
        """Wait until `uploads` more uploads got their response, and `processed` more videos are processed."""
        uploads, processed = len(self.statuses) + uploads, self._processed() + processed
        eventually(lambda: len(self.statuses) >= uploads and self._processed() >= processed, every=0.1)

    def _processed(self) -> int:
        return self.site.parts.store.count_by_status().get(Status.PROCESSED, 0)

    def _replace_api(self, queues: Mapping[str, str]) -> None:
        """Start a new API, send it the next uploads, and stop the old one."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        environment = {"ANB_API_LISTEN": f"127.0.0.1:{port}", "ANB_SWEEP_SECONDS": "1", **queues}
        api = self.site.start([sys.executable, "-m", "anb_api"], environment)
        eventually(lambda: answers(url) or api.process.poll() is not None)
        with self._switching:
            self._url = url
        old, self._api = self._api, api
        if old is not None:
            _stop(old)

    def _worker(self, queues: Mapping[str, str]) -> Worker:
        return self.site.held_worker(ANB_SWEEP_SECONDS="1", **queues)

    def _upload_steadily(self) -> None:
        while not self._stop.wait(PAUSE):
            with self._switching:
                response = self._upload()
            if response.status_code == 202:
                self.site.receipts.add(response.json()["video_id"])
            self.statuses.append(response.status_code)

    def _upload(self) -> httpx.Response:
        return httpx.post(
            f"{self._url}/api/videos/upload",
            headers=self._headers,
            data={"title": "A title"},
            files={"video_file": ("clip.mp4", VIDEO)},
            timeout=60,
            trust_env=False,
        )


def _stop(process: Worker) -> None:
    """Stop an API or a worker as Kubernetes does it."""
    process.send(signal.SIGTERM)
    assert process.exit_code() == 0
