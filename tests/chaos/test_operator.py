"""The operator beside a real API server of Kubernetes, whose watch dies without a word."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from anb_core.domain.status import Status
from anb_core.testing.promises import Shown
from anb_operator.crd import text
from anb_operator.videojob import GROUP, PLURAL
from tests.chaos.site import Servers, Site, running_site
from tests.support import eventually
from tests.support.apiserver import ASSETS, ApiServer, running_apiserver
from tests.support.given import record_of
from tests.support.proxy import Proxy, proxied

pytestmark = pytest.mark.chaos

NAMESPACE = "video"
WITHIN = 180.0


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A real API server with the CRD."""
    if not os.environ.get(ASSETS):
        pytest.skip(f"{ASSETS} is not set, so there is no kube-apiserver for the operator")
    manifests = tmp_path_factory.mktemp("manifests") / "all.json"
    with running_apiserver() as server:
        manifests.write_text(text(), encoding="utf-8")
        server.kubectl("create", "--filename", str(manifests))
        server.kubectl("wait", "--for=condition=Established", f"crd/{PLURAL}.{GROUP}", "--timeout=60s")
        server.kubectl("create", "namespace", NAMESPACE)
        yield server


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
            "ANB_HANDLE_DEAD_LETTERS": "false",
        }
        with running_site(folder, servers, cards_dir, **(settings | environment)) as site:
            site.api()
            yield site, proxy
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


def test_a_watch_that_is_silently_dead_delays_a_command_and_loses_none(
    tmp_path: Path, servers: Servers, cards_dir: Path, apiserver: ApiServer, clip: bytes
) -> None:
    with watched_site(tmp_path, servers, cards_dir, apiserver) as (site, proxy):
        site.operator()
        video = site.upload(clip, process_after="3600")
        eventually(lambda: is_shown(apiserver, video, Status.UPLOADED), every=0.5)
        proxy.silence()
        patch(apiserver, video, {"cancel": True})
        eventually(lambda: record_of(site.store, video).job.status is Status.CANCELLED, within=WITHIN, every=0.5)
        eventually(lambda: is_shown(apiserver, video, Status.CANCELLED), within=WITHIN, every=0.5)
        site.check()
