import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from anb_core.domain.model import DeadLetterCause
from anb_operator.deletion_costs import DELETION_COST
from anb_operator.videojob import FINALIZER
from tests.e2e.operator.conftest import Site, rights_of_the_chart
from tests.support import eventually
from tests.support.chart import CHART, KUBERNETES, PRESETS, tool
from tests.support.cluster import delete_videojobs, watched
from tests.support.given import processing, uploaded
from tests.support.tether import free_port

KEY = "uploads/clip.mp4"
OPERATOR = "app.kubernetes.io/component=operator"

# Matches a request in the log of `kubectl proxy`, in the old format and in the format since Kubernetes 1.33.
REQUEST = re.compile(r"\b(GET|POST|PUT|PATCH|DELETE)\"? (?:url=\")?https?://[^/]+([^ ?\"]*)\??([^ \"]*)")
RESOURCE = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/v[^/]+(?:/namespaces/[^/]+)?/(?P<resource>[^/]+)(?P<name>/[^/]+)?(?P<part>/.+)?"
)
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Right(NamedTuple):
    """One right of a Role: a verb on a resource of an API group."""

    group: str
    resource: str
    verb: str


class Recorder:
    """Records the rights that a client uses. `kubeconfig` connects the client to a proxy that logs all requests."""

    def __init__(self, kubeconfig: Path, log: Path) -> None:
        self.kubeconfig = kubeconfig
        self._log = log

    def used(self) -> set[Right]:
        requests = REQUEST.findall(self._log.read_text(encoding="utf-8"))
        return {right for method, path, query in requests if (right := right_of(method, path, query))}


def right_of(method: str, path: str, query: str) -> Right | None:
    """Return the right that a request to the API server needs.

    Returns None for API discovery, and for questions about the account's own rights. Such requests need no right.
    """
    asked = RESOURCE.fullmatch(path)
    if asked is None or asked["resource"] == "selfsubjectaccessreviews":
        return None
    reading = "watch" if "watch=" in query else "get" if asked["name"] else "list"
    return Right(asked["group"] or "", asked["resource"] + (asked["part"] or ""), VERBS.get(method, reading))


@contextmanager
def recording(kubeconfig: Path) -> Iterator[Recorder]:
    """Run a proxy that forwards requests to the API server and logs each request. The recorder reads the log."""
    port = free_port()
    log = kubeconfig.with_suffix(".log")
    command = ["kubectl", f"--kubeconfig={kubeconfig}", "proxy", f"--port={port}", "-v=6"]
    with watched(command, log):
        eventually(lambda: "Starting to serve" in log.read_text(encoding="utf-8"))
        config = json.loads(kubeconfig.read_text(encoding="utf-8"))
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{port}"}
        config["users"][0]["user"] = {}
        recorded = kubeconfig.with_suffix(".recorded")
        recorded.write_text(json.dumps(config), encoding="utf-8")
        yield Recorder(recorded, log)


def granted(site: Site, role: str) -> set[Right]:
    rules = json.loads(site.kubectl("get", "role", role, "-o", "json").stdout)["rules"]
    return {
        Right(group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_role_has_just_the_verbs_that_the_operator_uses(site: Site) -> None:
    site.put(KEY)
    site.kubectl("run", "worker-1", "--image=none", "--labels=app=worker")
    site.kubectl("create", "deployment", "anb-operator", "--image=none")
    site.store.record_dead_letter(cause=DeadLetterCause.UNREADABLE, message_id="m", body="?", detail="not JSON")
    with (
        recording(Path(site.environment["KUBECONFIG"])) as recorder,
        site.ready_operator(KUBECONFIG=str(recorder.kubeconfig)),
    ):
        video_id = processing(site.store).video_id
        site.phase(video_id, "processing")
        eventually(lambda: "Started" in dict(site.events(video_id)), every=0.2)
        eventually(lambda: DELETION_COST in site.kubectl("describe", "pod", "worker-1").stdout, every=0.2)
        site.apply("clip", {"source": {"key": KEY}, "ttlSecondsAfterFinished": 0})
        site.phase("clip", "uploaded")
        site.patch("clip", {"cancel": True})
        eventually(lambda: "clip" not in site.videojobs(), every=0.2)
        # Wait, because the proxy may log the DELETE request a little later than the object disappears.
        eventually(lambda: recorder.used() >= granted(site, "anb-operator"), every=0.2)
        assert recorder.used() == granted(site, "anb-operator")


def test_an_uninstall_stops_the_operator_and_leaves_no_finalizer(site: Site, tmp_path: Path) -> None:
    site.put(KEY)
    with site.ready_operator():
        for number in range(3):
            site.apply(f"clip-{number}", {"source": {"key": KEY}})
        video_id = uploaded(site.store)
        for name in ("clip-0", "clip-1", "clip-2", video_id):
            site.phase(name, "uploaded")
    # Create an evicted pod with the operator's labels, which the uninstall must ignore.
    # Use a scheduler that does not exist. Otherwise, a node would get the pod and set its phase to Pending.
    nowhere = '{"spec": {"schedulerName": "nobody"}}'
    site.kubectl("run", "evicted", "--image=none", f"--labels={OPERATOR}", f"--overrides={nowhere}")
    ended = '{"status": {"phase": "Failed", "reason": "Evicted"}}'
    site.kubectl("patch", "pod", "evicted", "--subresource=status", "--type=merge", f"--patch={ended}")
    config = rights_of_the_chart(site.namespace, tmp_path, "uninstall", account="anb-operator-uninstall")
    with recording(config) as recorder:
        clean_up(site, recorder.kubeconfig)
        assert recorder.used() == granted(site, "anb-operator-uninstall")
    left = site.videojobs()
    assert left.keys() == {"clip-0", "clip-1", "clip-2", video_id}
    assert not any(FINALIZER in videojob["metadata"].get("finalizers", ()) for videojob in left.values())
    site.kubectl("delete", "videojobs", "--all", "--timeout=60s")


def test_a_clean_up_that_is_applied_like_everything_else_stops_and_frees_nothing(site: Site, tmp_path: Path) -> None:
    site.put(KEY)
    options = ("-n", site.namespace, "-f", str(PRESETS[0]), "--kube-version", KUBERNETES[0])
    # Leave out the KEDA objects, because the cluster may lack KEDA. The CRD is already installed, so leave it out too.
    less = ("--set", "worker.autoscaling.enabled=false,crds.install=false")
    rendered = tool("helm", "template", "anb", str(CHART), *options, *less).stdout
    tool("kubectl", "-n", site.namespace, "apply", "--selector", OPERATOR, "-f", "-", given=rendered)
    config = rights_of_the_chart(site.namespace, tmp_path, "uninstall", account="anb-operator-uninstall")
    with site.ready_operator():
        site.apply("clip", {"source": {"key": KEY}})
        site.phase("clip", "uploaded")
        clean_up(site, config)
        assert FINALIZER in site.videojobs()["clip"]["metadata"]["finalizers"]
        replicas = ("get", "deployment", "anb-operator", "-o", "jsonpath={.spec.replicas}")
        assert site.kubectl(*replicas).stdout == "1"
        site.kubectl("delete", "videojob", "clip", "--timeout=60s")


def clean_up(site: Site, kubeconfig: Path) -> None:
    """Run the operator's uninstall command as the chart's hook does."""
    environment = {
        "KUBECONFIG": str(kubeconfig),
        "ANB_OPERATOR_NAMESPACE": site.namespace,
        "ANB_OPERATOR_DEPLOYMENT": "anb-operator",
        "ANB_OPERATOR_SELECTOR": OPERATOR,
    }
    subprocess.run([sys.executable, "-m", "anb_operator", "uninstall"], env=os.environ | environment, check=True)


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
            tool("kubectl", "-n", elsewhere, "delete", "vj", "clip", "--timeout=60s")
    finally:
        tool("kubectl", "delete", "namespace", elsewhere, "--wait=false")
        delete_videojobs(elsewhere)
        for kind in ("clusterrole", "clusterrolebinding"):
            tool("kubectl", "delete", kind, f"{site.namespace}-anb-operator")
