"""The backup drill: the database is restored to a state that is an hour older than bucket and queue, and reconciled."""

import json
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from anb_cli.__main__ import perform
from anb_core.adapters.system import new_id
from anb_core.domain.keys import result_key
from anb_core.domain.model import Scope
from anb_core.domain.status import Status
from anb_core.testing.promises import check_promises
from anb_core.usecases.tokens import create_token
from tests.integration.worker.conftest import Site, Worker
from tests.support import eventually
from tests.support.api import END, VIDEO, Raw, answers, part
from tests.support.postgres import Postgres
from tests.support.tether import free_port

pytestmark = pytest.mark.chaos

DOCS = (Path(__file__).parents[3] / "docs/restore.md").read_text()
HOLD, RELEASE = re.findall(r"^ +((?:INSERT|DELETE)[^;]+;)", DOCS, re.MULTILINE)
"""The statements in the docs that keep the sweep from running, and let it run again."""


@dataclass
class Drill:
    """A deployment with an API and a worker, as its users and its operator see it."""

    site: Site
    secret: str
    api: Worker
    url: str
    worker: Worker
    titles: dict[str, str] = field(default_factory=dict)
    """The title of each video whose upload got a 202."""

    @property
    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.secret}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def upload(self, title: str) -> str:
        with self.client as client:
            answer = client.post("/api/videos/upload", data={"title": title}, files={"video_file": ("clip.mp4", VIDEO)})
            return self.accepted(answer.json()["video_id"], title)

    def hold(self, title: str) -> str:
        """Upload a video, and wait until the worker holds its render. Later renders wait, too."""
        (self.site.folder / "go").unlink(missing_ok=True)
        self.site.held(self.worker).unlink(missing_ok=True)
        video_id = self.upload(title)
        self.site.until_rendering(self.worker, video_id)
        return video_id

    def accepted(self, video_id: str, title: str) -> str:
        self.titles[video_id] = title
        self.site.receipts.add(video_id)
        return video_id

    def command(self, method: str, path: str) -> None:
        with self.client as client:
            assert client.request(method, f"/api/videos/{path}").is_success

    def processed(self, *video_ids: str) -> None:
        for video_id in video_ids:
            self.site.until(video_id, Status.PROCESSED)

    def restore(self, postgres: Postgres, dump: Path) -> None:
        """Restore the database as the docs say, up to the start of an API. An hour has passed since the backup."""
        postgres.restore(self.site.database.url, dump)
        self.site.database.pass_time(timedelta(hours=1))
        self._execute(HOLD)
        restored = self.site.parts.store.now()
        self.api, self.url = start_api(self.site)
        # The sweep would have run by now.
        eventually(lambda: self.site.parts.store.now() - restored > timedelta(seconds=4), every=0.2)

    def go_on(self, orphan: str) -> None:
        """Start everything again, wait until all work is done and the object `orphan` is deleted, and stop."""
        self._execute(RELEASE)
        self.site.let_go()
        self.worker = start_worker(self.site)
        self.processed(*self.titles)
        eventually(lambda: self.site.parts.objects.head(orphan) is None)
        eventually(lambda: self.site.parts.queue.depth().empty)
        self.stop()

    def _execute(self, statement: str) -> None:
        with self.site.database.database.transaction() as connection:
            connection.exec_driver_sql(statement)

    def stop(self) -> None:
        for process in (self.worker, self.api):
            process.send(signal.SIGTERM)
            process.exit_code()


def start_api(site: Site) -> tuple[Worker, str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # The sweep would run at once, if it was not held.
    environment = {"ANB_API_LISTEN": f"127.0.0.1:{port}", "ANB_SWEEP_SECONDS": "1"}
    api = site.start([sys.executable, "-m", "anb_api"], environment)
    eventually(lambda: answers(url))
    return api, url


def start_worker(site: Site) -> Worker:
    return site.held_worker(ANB_DRAIN_SECONDS="0")


@contextmanager
def half_an_upload(drill: Drill, title: str) -> Iterator[Callable[[], str]]:
    """Send half of an upload. Yields a function that sends the rest and returns the video's id."""
    file = part("video_file", VIDEO, "clip.mp4")
    with Raw(drill.url, drill.secret) as raw:
        raw.begin("Transfer-Encoding: chunked")
        raw.send_chunk(part("title", title.encode()) + file[:-1000])
        store = drill.site.parts.store
        eventually(lambda: store.listing(owner="ana", statuses=[Status.UPLOADING]))

        def finish() -> str:
            raw.send_chunk(file[-1000:] + END)
            raw.send(b"0\r\n\r\n")
            return drill.accepted(json.loads(raw.answer().read())["video_id"], title)

        yield finish


def reconcile(capsys: pytest.CaptureFixture[str], *options: str) -> Counter[tuple[str, str]]:
    """Run `anb reconcile`. Returns how often it found each action for each video."""
    assert perform(["reconcile", *options, "--json"]) == 0
    out, err = capsys.readouterr()
    *findings, totals = [json.loads(line) for line in out.splitlines()]
    assert totals["dry_run"] == ("--apply" not in options), err
    return Counter((one["video_id"], one["action"]) for one in findings)


def test_after_a_restore_no_accepted_upload_is_lost_and_no_object_is_left_over(
    postgresql_site: Site, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site, dump = postgresql_site, postgresql_site.folder / "backup"
    secret = create_token(site.parts.store, owner="ana", scope=Scope.OPS, new_id=new_id).secret
    site.let_go()
    drill = Drill(site, secret, *start_api(site), start_worker(site))

    # An hour before the loss.
    done, broken, deleted = (drill.upload(title) for title in ("done", "broken", "deleted"))
    drill.processed(done, broken, deleted)
    running = drill.hold("running")
    waiting, retried = drill.upload("waiting"), drill.upload("retried")
    drill.command("POST", f"{retried}/cancel")
    with half_an_upload(drill, "half") as finish:
        postgres.dump(site.database.url, dump)

        # The hour that will be lost.
        half = finish()
    site.let_go()
    drill.command("POST", f"{retried}/retry")
    new = drill.upload("new é")
    drill.processed(running, waiting, half, retried, new)
    results = {video_id: site.job(video_id).result for video_id in drill.titles}
    drill.command("DELETE", deleted)
    stuck, unsent = drill.hold("stuck"), drill.upload("unsent")
    drill.stop()
    orphan = result_key(waiting, 1, new_id())
    with site.parts.objects.writing(orphan, content_type="video/mp4") as writer:
        writer.write(b"of an attempt that was lost")
        writer.commit()
    lost = results[broken]
    assert lost is not None
    site.parts.objects.delete([lost.key])

    drill.restore(postgres, dump)
    monkeypatch.setenv("ANB_URL", drill.url)
    monkeypatch.setenv("ANB_TOKEN", secret)
    said = reconcile(capsys)
    assert said == Counter(
        [
            (half, "complete_upload"),
            *((video_id, "restore_upload") for video_id in (new, stuck, unsent)),
            *((video_id, "restore_result") for video_id in (running, waiting, half, retried, new)),
            (waiting, "delete_result"),
            (broken, "render_again"),
        ]
    )
    assert reconcile(capsys, "--apply") == said
    assert reconcile(capsys) == Counter()
    drill.go_on(orphan)
    evidence = site.evidence()
    check_promises(evidence, site.policy, at_rest=True)
    jobs = {video_id: site.record(video_id) for video_id in drill.titles}
    assert {video_id: record.video.title for video_id, record in jobs.items()} == drill.titles
    assert {record.video.owner for record in jobs.values()} == {"ana"}
    rendered_again = {video_id for video_id, record in jobs.items() if record.job.result != results.get(video_id)}
    assert rendered_again == {broken, stuck, unsent}
    needed = {key for one in jobs.values() if one.job.result for key in (one.video.source_key, one.job.result.key)}
    assert set(evidence.objects or ()) == needed
