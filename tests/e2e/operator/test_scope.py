import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

from anb_operator.videojob import FINALIZER
from tests.contract.store.given import uploaded
from tests.e2e.operator.conftest import Site, rights_of_the_chart
from tests.support import eventually
from tests.support.chart import tool

KEY = "uploads/clip.mp4"


def test_an_uninstall_stops_the_operator_and_leaves_nothing_that_hangs(site: Site, tmp_path: Path) -> None:
    site.put(KEY)
    with site.ready_operator():
        for number in range(3):
            site.apply(f"clip-{number}", {"source": {"key": KEY}})
        video_id = uploaded(site.store)
        for name in ("clip-0", "clip-1", "clip-2", video_id):
            site.phase(name, "uploaded")
    config = rights_of_the_chart(site.namespace, tmp_path, "uninstall", account="anb-operator-uninstall")
    environment = {
        "KUBECONFIG": str(config),
        "ANB_OPERATOR_NAMESPACE": site.namespace,
        "ANB_OPERATOR_DEPLOYMENT": "anb-operator",
        "ANB_OPERATOR_SELECTOR": "app.kubernetes.io/component=operator",
    }
    subprocess.run(
        [sys.executable, "-m", "anb_operator", "uninstall"], env=os.environ | environment, check=True, timeout=60
    )
    left = site.videojobs()
    assert left.keys() == {"clip-0", "clip-1", "clip-2", video_id}
    assert not any(FINALIZER in videojob["metadata"].get("finalizers", ()) for videojob in left.values())
    site.kubectl("delete", "videojobs", "--all", "--timeout=15s")


def test_the_whole_cluster_is_watched_where_that_is_wanted(site: Site) -> None:
    site.put(KEY)
    elsewhere = f"elsewhere-{uuid.uuid4().hex[:8]}"
    tool("kubectl", "create", "namespace", elsewhere)
    manifest = {
        "apiVersion": "anb.video/v1alpha1",
        "kind": "VideoJob",
        "metadata": {"name": "clip", "namespace": elsewhere},
        "spec": {"source": {"key": KEY}},
    }
    path = site.folder / "elsewhere.json"
    path.write_text(json.dumps(manifest), encoding="utf-8")

    def phase() -> str:
        return tool("kubectl", "-n", elsewhere, "get", "vj", "clip", "-o", "jsonpath={.status.phase}").stdout

    config = rights_of_the_chart(site.namespace, site.folder, "role", "--set", "operator.watch=cluster")
    try:
        with site.ready_operator(ANB_OPERATOR_WATCH="cluster", KUBECONFIG=str(config)):
            tool("kubectl", "create", "-f", str(path))
            eventually(lambda: phase() == "uploaded", every=0.2)
            assert site.videojobs() == {}
            tool("kubectl", "-n", elsewhere, "delete", "vj", "clip", "--timeout=15s")
    finally:
        tool("kubectl", "delete", "namespace", elsewhere, "--wait=false")
        for kind in ("clusterrole", "clusterrolebinding"):
            tool("kubectl", "delete", kind, f"{site.namespace}-anb-operator")
