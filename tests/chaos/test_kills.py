"""Each program dies at each of its steps, once. All deaths share one site, which then must have lost nothing."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from uuid import uuid4

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError
from sqlalchemy import delete

from anb_core.adapters.database.tables import locks
from anb_core.domain.keys import upload_key
from anb_core.ports.stop import Stop
from anb_worker.render.engine import RenderEngine
from tests.chaos import steps
from tests.chaos.programs import Faults
from tests.chaos.site import EDIT, HEARTBEAT, Servers, Site, running_site
from tests.support import eventually
from tests.support.api import VIDEO
from tests.support.given import SOURCE, dead_lettered
from tests.support.s3_notifications import notification, record

pytestmark = pytest.mark.chaos

WITHIN = 240.0
"""Time in seconds within which all steps must have been reached."""

MOST_UNFINISHED = 12
"""The clients upload nothing while so many videos are unfinished, so that all can be over soon after the last step."""

COMMANDS = ("store.cancel", "store.retry", "store.delete", "store.abandon_upload", "store.now")
"""Calls for which people have to give commands."""

MESSAGES = (
    *("store.record_dead_letter", "store.receive_dead_letter", "store.submit_existing", "store.known_sources"),
    *("store.known_videos", "store.videos_after", "worker: before store.get", "worker: after store.get"),
    *("bucket.peek", "bucket.listing", "dead letters.delete", "alerts.publish", "store.mark_announced"),
)
"""Calls for which messages or objects of other programs are needed."""

TITLED = json.dumps({**json.loads(EDIT), "intro": {"enabled": True}})
"""An edit whose render draws a title."""

LATER = "3600"
"""A time in the future for `process_after`, so that no worker takes the video."""


@dataclass(slots=True)
class Tour:
    """A site in which each process dies at the first step at which no process died before."""

    site: Site
    clip: bytes
    names: set[str]
    """All steps."""
    calm: threading.Event = field(default_factory=threading.Event)
    """Set when no process shall die any more."""
    deaths: int = 0
    """How many processes had died a moment ago."""

    @property
    def told(self) -> Path:
        return self.site.folder / "deaths"

    @property
    def left(self) -> set[str]:
        """The steps at which no process died yet."""
        died = self.told.read_text().splitlines() if self.told.exists() else ()
        return self.names.difference(died)

    def faults(self) -> Callable[[], Faults]:
        """Return a function that returns the faults of the next process of a program."""
        refused = cycle([["store.claim"], ["queue.send"], []])

        def of_next() -> Faults:
            left = self.left
            if self.calm.is_set():
                return {}
            return {
                "told": str(self.told),
                "seen": str(self.site.folder / "seen"),
                "die_at": sorted(left),
                "kill_child_at": sorted(name for name in left if name.startswith("child:")),
                "refused": next(refused),
                # So that the lease is renewed during a render.
                "slow": HEARTBEAT.total_seconds() + 1 if "worker: after queue.extend" in left else 0,
            }

        return of_next

    def run(self) -> None:
        """Start the programs, and make requests of all kinds until each step was reached."""
        for start in (self.site.api, self.site.api, self.site.worker, self.site.worker):
            start(self.faults())
        # An upload whose API dies holds its key for 20 s, so several clients upload at the same time.
        acts = (
            *[self._upload] * 4,
            self._upload_titled,
            self._commands,
            self._reads,
            self._messages,
            self._dead_letters,
        )
        clients = [threading.Thread(target=self._repeat, args=[act], name=act.__name__) for act in acts]
        for client in clients:
            client.start()
        with suppress(AssertionError):  # The test names the steps that are left.
            eventually(self._is_done, within=WITHIN, every=1.0)
        self.calm.set()
        for client in clients:
            client.join()
        for program in self.site.programs.all.values():
            program.send(signal.SIGTERM)  # The next process does not die.

    def _is_done(self) -> bool:
        """Return whether no step is left. Remove the locks of processes that have died since the last call.

        Otherwise each death in a sweep would delay the next one by a minute.
        """
        if (deaths := sum(len(program.codes) for program in self.site.programs.all.values())) > self.deaths:
            self.deaths = deaths
            with self.site.database.transaction() as connection:
                connection.execute(delete(locks))
        return not self.left

    def _repeat(self, act: Callable[[], object]) -> None:
        while not self.calm.wait(1.0):
            with suppress(httpx.HTTPError, ClientError):  # At first there is no bucket.
                act()

    def _upload(self, edit: str = EDIT) -> None:
        if self.site.unfinished() < MOST_UNFINISHED:
            self.site.upload(self.clip, edit=edit, within=WITHIN)

    def _upload_titled(self) -> None:
        if "child: at engine.title" in self.left:
            self._upload(TITLED)

    def _commands(self) -> None:
        """Cancel, retry and delete a video that waits, and a video that a worker may be rendering."""
        if not any(step.endswith(COMMANDS) for step in self.left):
            return
        waiting = self.site.upload(self.clip, process_after=LATER, within=WITHIN)
        for method, command in (("POST", "/cancel"), ("POST", "/retry"), ("POST", "/cancel"), ("DELETE", "")):
            self._ask(method, f"/api/videos/{waiting}{command}")
        self._ask("POST", f"/api/videos/{self._any_video()}/cancel")
        # This upload is abandoned, because the field after its file is invalid.
        parts = {"title": (None, "A title"), "video_file": ("a.mp4", self.clip), "edit": (None, "nonsense")}
        self._ask("POST", "/api/videos/upload", files=parts)

    def _reads(self) -> None:
        video = self._any_video()
        paths = [f"/api/videos/{video}{part}" for part in ("", "/why", "/download", "/events")]
        for path in (*paths, "/api/videos", "/api/brokers", "/metrics", "/readyz", "/healthz"):
            self._ask("GET", path, headers={"Last-Event-ID": "0"} if path.endswith("/events") else {})

    def _messages(self) -> None:
        """Put messages into the queues that belong to no job, and objects into the bucket that no worker can render."""
        # More messages would keep the workers from the videos.
        if self.calm.wait(5.0) or not any(step.endswith(MESSAGES) for step in self.left):
            return
        sqs = self.site.sqs
        url = self.site.environment["SQS_QUEUE_URL"]
        older = [str(uuid4()) for _ in range(2)]
        for video_id in older:
            self._put(upload_key(video_id), VIDEO)
        camera = f"camera/{older[0]}.mp4"
        self._put(camera, VIDEO)
        notice = notification(record(camera, bucket=self.site.environment["S3_BUCKET"]))
        sqs.send_message(QueueUrl=url, MessageBody=notice)
        named = {"video_id": older[0], "file_path": upload_key(older[0]), "status": "pending"}
        for queue in (url, f"{url}-dlq"):
            for body in ("nonsense", json.dumps({**named, "timestamp": 1.0})):
                sqs.send_message(QueueUrl=queue, MessageBody=body)
        self._ask("POST", "/api/adoptions", json={"prefix": upload_key(older[1])})
        self._ask("POST", "/api/reconciliations", json={})
        self._ask("POST", "/api/reconciliations", json={"after": "videos/"})

    def _dead_letters(self) -> None:
        found = self._ask("GET", "/api/dead-letters")
        if found is None or found.status_code != 200:
            return
        if "api: after store.redrive_dead_letter" in self.left:
            with suppress(AssertionError):  # A worker was faster and has the job.
                self._put(upload_key(dead_lettered(self.site.store)), b"x" * SOURCE.size)
        self._ask("POST", "/api/dead-letters/redrive", json={})
        for letter in found.json()["dead_letters"][:2]:
            path = f"/api/dead-letters/{letter['id']}"
            self._ask("GET", path)
            self._ask("POST", f"{path}/redrive")
            self._ask("POST", f"{path}/discard", json={"reason": "It belongs to no job."})

    def _put(self, key: str, data: bytes) -> None:
        self.site.s3.put_object(Bucket=self.site.environment["S3_BUCKET"], Key=key, Body=data)

    def _any_video(self) -> str:
        return max(self.site.receipts, default=str(uuid4()))

    def _ask(self, method: str, path: str, **options: object) -> httpx.Response | None:
        return self.site.request(method, path, timeout=5, **options)


@contextmanager
def toured(folder: Path, servers: Servers, cards_dir: Path, clip: bytes, names: set[str]) -> Iterator[Tour]:
    """Run a tour. At its end, no process dies any more."""
    session = boto3.session.Session(region_name="us-east-1")
    sns = session.client("sns", endpoint_url=servers.aws_url)
    topic = sns.create_topic(Name="chaos")["TopicArn"]
    sns.close()
    adopting = {"ANB_ADOPT_OWNER": "older", "ANB_SOURCE_PREFIXES": "camera/"}
    if "child: at engine.title" in names:
        RenderEngine(cards_dir).warm(Stop())  # Some renders need a card, and no worker shall be busy with it.
    with running_site(folder, servers, cards_dir, ANB_SNS_TOPIC_ARN=topic, **adopting) as site:
        tour = Tour(site, clip, names)
        try:
            tour.run()
            yield tour
        finally:
            print(site.logs())  # noqa: T201 - pytest shows it when the test failed


def test_every_call_of_a_port_is_a_step_with_a_component_or_a_reason() -> None:
    """A new method of a port needs a component that dies before and after it, or a reason in `NEVER`."""
    named = {death.partition(": ")[2].partition(" ")[2] for death in steps.DEATHS}
    named = {call for call in named if not call.startswith("engine.")}
    assert named | steps.NEVER.keys() == set(steps.calls())
    assert not named & steps.NEVER.keys()


def test_programs_that_die_once_at_each_step_of_an_upload_lose_nothing(
    tmp_path: Path, servers: Servers, cards_dir: Path, clip: bytes
) -> None:
    assert steps.OFTEN <= steps.DEATHS
    with toured(tmp_path, servers, cards_dir, clip, set(steps.OFTEN)) as tour:
        assert sorted(tour.left) == []
        tour.site.until_rest()
        tour.site.check()


@pytest.mark.tour
@pytest.mark.timeout(WITHIN + 240)
def test_programs_that_die_once_at_each_step_lose_nothing(
    tmp_path: Path, servers: Servers, cards_dir: Path, clip: bytes
) -> None:
    names = {name for name in steps.DEATHS if not name.startswith("operator:")}
    with toured(tmp_path, servers, cards_dir, clip, names) as tour:
        assert sorted(tour.left) == []
        seen = set((tmp_path / "seen").read_text().splitlines())
        unlisted = {
            step for step in seen - steps.DEATHS if step.partition(": ")[2].partition(" ")[2] not in steps.NEVER
        }
        assert sorted(unlisted) == []
        tour.site.until_rest()
        tour.site.check()
