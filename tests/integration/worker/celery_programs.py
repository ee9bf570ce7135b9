"""Programs of an older deployment: a producer and a worker, which use Celery itself and not our database."""

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self
from uuid import uuid4

from celery import Celery

from anb_core.domain.keys import upload_key
from tests.integration.worker.conftest import Site
from tests.support import eventually

RUNBOOK = Path(__file__).parents[3] / "docs" / "migration.md"

PAUSE = 0.3
"""Time between two tasks, in seconds."""

WORKER = """
import os
import time
from pathlib import Path

from celery import Celery

folder = Path(os.environ["OLDER_FOLDER"])
app = Celery("videos", broker=os.environ["CELERY_BROKER_URL"])
# Celery's worker deletes the message of a task at its end. By default, it does so at its beginning.
app.conf.task_acks_late = True


@app.task(name="anb.process_video")
def process_video(video_id, **_):
    (folder / "begun" / video_id).touch()
    while (folder / "hold").exists():
        time.sleep(0.02)
    (folder / "done" / video_id).touch()
"""


class CeleryPrograms:
    """A Celery producer that sends tasks at a steady rate from a thread, and a Celery worker in a process."""

    def __init__(self, site: Site, broker_url: str) -> None:
        self.sent: set[str] = set()
        """The ids of all videos of the producer."""
        self._site = site
        self._folder = site.folder / "older"
        for name in ("begun", "done"):
            (self._folder / name).mkdir(parents=True)
        (self._folder / "older.py").write_text(WORKER)
        self._queue = os.environ["CELERY_TASK_DEFAULT_QUEUE"]
        self._environment = {"CELERY_BROKER_URL": broker_url, "OLDER_FOLDER": str(self._folder)}
        self._producer = Celery("producer", broker=broker_url, set_as_current=False)
        self._producer.conf.task_default_queue = self._queue
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._produce)

    def __enter__(self) -> Self:
        """Start the producer and the worker."""
        options = ["--pool", "solo", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        program = [sys.executable, "-m", "celery", "--workdir", str(self._folder), "--app", "older", "worker"]
        command: list[str | Path] = [*program, *options, "--queues", self._queue]
        self._worker = self._site.start(command, self._environment)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_producer()

    def done(self) -> set[str]:
        """Return the ids of the videos that the Celery worker has processed."""
        return {path.name for path in (self._folder / "done").iterdir()}

    def hold_worker(self) -> None:
        """Let the worker's present task never end. Returns when the worker works on a task."""
        (self._folder / "hold").touch()
        eventually(lambda: self._begun() - self.done())

    def kill_worker(self) -> None:
        self._worker.kill()

    def return_held_messages(self) -> int:
        """Run the script of the runbook that returns the messages of killed Celery workers to the queue on Redis.

        Returns the number of messages that the script reports.
        """
        [script] = re.findall(r"```python\n(.*?)```", RUNBOOK.read_text(), re.DOTALL)
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | self._environment,
            capture_output=True,
            check=True,
            text=True,
        )
        return int(done.stdout.split()[0])

    def stop_producer(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
            self._producer.close()

    def _begun(self) -> set[str]:
        return {path.name for path in (self._folder / "begun").iterdir()}

    def _produce(self) -> None:
        while not self._stop.wait(PAUSE):
            video_id = str(uuid4())
            with self._site.parts.objects.writing(upload_key(video_id), content_type="video/mp4") as writer:
                writer.write(b"video")
                writer.commit()
            fields = {"video_id": video_id, "file_path": upload_key(video_id), "status": "pending"}
            self._producer.send_task("anb.process_video", kwargs={**fields, "timestamp": time.time()})
            self.sent.add(video_id)
