"""The operator dies at each of its steps beside a real API server, whose watch is silently dead once."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import delete

from anb_core.adapters.database.tables import locks
from anb_core.domain.keys import upload_key
from anb_core.domain.status import Status
from anb_core.testing.promises import Shown
from anb_operator.crd import text
from anb_operator.videojob import GROUP, PLURAL, VERSION
from tests.chaos import steps
from tests.chaos.site import EDIT, Servers, Site, running_site
from tests.support import eventually
from tests.support.apiserver import ASSETS, ApiServer, running_apiserver
from tests.support.given import record_of
from tests.support.proxy import Proxy, proxied

pytestmark = pytest.mark.chaos

NAMESPACE = "video"
WITHIN = 180.0


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A real API server with the CRD, and with the pod of a worker and the Deployment of an operator."""
    if not os.environ.get(ASSETS):
        pytest.skip(f"{ASSETS} is not set, so there is no kube-apiserver for the operator")
    manifests = tmp_path_factory.mktemp("manifests") / "all.json"
    with running_apiserver() as server:
        manifests.write_text(text(), encoding="utf-8")
        server.kubectl("create", "--filename", str(manifests))
        server.kubectl("wait", "--for=condition=Established", f"crd/{PLURAL}.{GROUP}", "--timeout=60s")
        server.kubectl("create", "namespace", NAMESPACE)
        manifests.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [_pod(), _deployment()]}))
        server.kubectl("--namespace", NAMESPACE, "create", "--filename", str(manifests))
        yield server


def _pod() -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "worker-2", "labels": {"app": "worker"}},
        "spec": {"containers": [{"name": "worker", "image": "none"}]},
    }


def _deployment() -> dict[str, object]:
    labels = {"app": "operator"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "anb-operator"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "operator", "image": "none"}]},
            },
        },
    }


@contextmanager
def watched_site(
    folder: Path, servers: Servers, cards_dir: Path, apiserver: ApiServer, **environment: str
) -> Iterator[tuple[Site, Proxy]]:
    """Run a site with an API and the operator's settings. The operator reaches the API server through the proxy."""
    config = json.loads(apiserver.kubeconfig.read_text(encoding="utf-8"))
    cluster = config["clusters"][0]["cluster"]
    port = urlsplit(cluster["server"]).port
    assert port
    with proxied("127.0.0.1", port) as proxy:
        cluster["server"] = f"https://127.0.0.1:{proxy.port}"
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(config), encoding="utf-8")
        settings = {
            "KUBECONFIG": str(kubeconfig),
            "ANB_OPERATOR_NAMESPACE": NAMESPACE,
            "ANB_OPERATOR_DEPLOYMENT": "anb-operator",
            "ANB_OPERATOR_WORKER_SELECTOR": "app=worker",
            "ANB_HANDLE_DEAD_LETTERS": "false",
        }
        with running_site(folder, servers, cards_dir, **(settings | environment)) as site:
            site.api()
            try:
                yield site, proxy
            finally:
                print(site.logs())  # noqa: T201 - pytest shows it when the test failed


def shown(apiserver: ApiServer) -> dict[str, Shown]:
    """Return what `kubectl get videojobs` shows of each video."""
    found = json.loads(apiserver.kubectl("--namespace", NAMESPACE, "get", PLURAL, "--output", "json"))["items"]
    statuses = [videojob.get("status", {}) for videojob in found]
    return {one["videoId"]: Shown(one.get("phase"), one.get("attempts")) for one in statuses if "videoId" in one}


def is_shown(apiserver: ApiServer, video_id: str, status: Status) -> bool:
    return shown(apiserver).get(video_id, Shown(None, None)).phase == status


def patch(apiserver: ApiServer, video_id: str, spec: dict[str, object]) -> None:
    body = json.dumps({"spec": spec})
    apiserver.kubectl("--namespace", NAMESPACE, "patch", PLURAL, video_id, "--type", "merge", "--patch", body)


def shown_upload(site: Site, apiserver: ApiServer, clip: bytes) -> str:
    """Upload a video whose work begins later, and wait until its VideoJob shows it. Returns the video's id."""
    video = site.upload(clip, process_after="3600")
    eventually(lambda: is_shown(apiserver, video, Status.UPLOADED), every=0.5)
    return video


def test_a_watch_that_is_silently_dead_delays_a_command_and_loses_none(
    tmp_path: Path, servers: Servers, cards_dir: Path, apiserver: ApiServer, clip: bytes
) -> None:
    with watched_site(tmp_path, servers, cards_dir, apiserver) as (site, proxy):
        site.operator()
        video = shown_upload(site, apiserver, clip)
        proxy.silence()
        patch(apiserver, video, {"cancel": True})
        eventually(lambda: record_of(site.store, video).job.status is Status.CANCELLED, within=WITHIN, every=0.5)
        eventually(lambda: is_shown(apiserver, video, Status.CANCELLED), within=WITHIN, every=0.5)
        site.check()


def test_an_api_server_that_is_away_delays_a_command_and_loses_none(
    tmp_path: Path, servers: Servers, cards_dir: Path, apiserver: ApiServer, clip: bytes
) -> None:
    with watched_site(tmp_path, servers, cards_dir, apiserver) as (site, _):
        site.operator()
        before = shown_upload(site, apiserver, clip)
        with apiserver.away():
            meanwhile = site.upload(clip, process_after="3600")
        eventually(lambda: is_shown(apiserver, meanwhile, Status.UPLOADED), within=WITHIN, every=0.5)
        for video in (before, meanwhile):
            patch(apiserver, video, {"cancel": True})
        for video in (before, meanwhile):
            eventually(lambda: is_shown(apiserver, video, Status.CANCELLED), within=WITHIN, every=0.5)  # noqa: B023
        site.check()


class Round:
    """One round of a user of VideoJobs: a mirrored video, a submitted object, and two dead letters."""

    def __init__(self, site: Site, apiserver: ApiServer, clip: bytes) -> None:
        self._site = site
        self._readyz = f"http://{site.programs.all['operator-3'].environment['ANB_OPERATOR_LISTEN']}/readyz"
        self._apiserver = apiserver
        self._clip = clip

    def run(self) -> None:
        """Make the operator do everything once. The operator may die meanwhile, and more than once."""
        video = self._site.upload(self._clip, process_after="3600")
        with suppress(httpx.HTTPError):
            httpx.get(self._readyz, trust_env=False, timeout=10)
        submitted = self._submit()
        self._send_dead_letters(submitted)
        with suppress(RuntimeError, AssertionError):  # kubectl fails while the VideoJob does not exist.
            eventually(lambda: is_shown(self._apiserver, video, Status.UPLOADED), within=20, every=0.5)
            patch(self._apiserver, video, {"cancel": True})
            eventually(lambda: is_shown(self._apiserver, video, Status.CANCELLED), within=20, every=0.5)
            patch(self._apiserver, video, {"cancel": False, "retry": "1"})
            eventually(lambda: is_shown(self._apiserver, video, Status.DEAD_LETTERED), within=20, every=0.5)
            self._apiserver.kubectl("--namespace", NAMESPACE, "delete", PLURAL, submitted, "--wait=false")

    def _submit(self) -> str:
        name = str(uuid4())
        self._site.s3.put_object(Bucket=self._site.environment["S3_BUCKET"], Key=upload_key(name), Body=self._clip)
        manifest = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "VideoJob",
            "metadata": {"name": name},
            "spec": {"source": {"key": upload_key(name)}, "edit": json.loads(EDIT)},
        }
        file = self._site.folder / "videojob.json"
        file.write_text(json.dumps(manifest), encoding="utf-8")
        self._apiserver.kubectl("--namespace", NAMESPACE, "create", "--filename", str(file))
        return name

    def _send_dead_letters(self, video_id: str) -> None:
        url = self._site.environment["SQS_QUEUE_URL"]
        body = {"video_id": video_id, "file_path": upload_key(video_id), "status": "pending", "timestamp": 1.0}
        for message in ("nonsense", json.dumps(body)):
            self._site.sqs.send_message(QueueUrl=f"{url}-dlq", MessageBody=message)


@pytest.mark.tour
@pytest.mark.timeout(WITHIN + 240)
def test_an_operator_that_dies_once_at_each_step_loses_nothing(
    tmp_path: Path, servers: Servers, cards_dir: Path, apiserver: ApiServer, clip: bytes
) -> None:
    told, names = tmp_path / "deaths", {name for name in steps.DEATHS if name.startswith("operator:")}

    def left() -> set[str]:
        return names.difference(told.read_text().splitlines()) if told.exists() else names

    # One failure is enough for a dead letter, and the worker's first render fails.
    limits = {"ANB_MAX_FAILURES": "1", "ANB_OPERATOR_TTL_PROCESSED_SECONDS": "0"}
    with watched_site(tmp_path, servers, cards_dir, apiserver, **limits) as (site, _):
        children = [f"child: at engine.{name}" for name in ("probe", "main")]
        site.worker(lambda: {"kill_child_at": children, "told": str(tmp_path / "children")}, ANB_WORKER_NAME="worker-2")
        operator = site.operator(lambda: {"die_at": sorted(left()), "told": str(told)})
        deadline = monotonic() + WITHIN
        while left() and monotonic() < deadline:
            with site.database.transaction() as connection:  # Otherwise the lock of a dead operator lasts for minutes.
                connection.execute(delete(locks))
            Round(site, apiserver, clip).run()
        assert sorted(left()) == []
        site.until_rest()
        rows = {record.video.id for record in site.evidence(queues=False).records}
        eventually(lambda: shown(apiserver).keys() <= rows, within=WITHIN, every=1.0)
        assert operator.pid
        site.check()
