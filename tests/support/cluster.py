"""Runs kubectl on the cluster of KUBECONFIG."""

import json
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.chart import tool
from tests.support.tether import free_port, tethered
from tests.support.waiting import eventually

Json = dict[str, Any]

EVIDENCE = Path(__file__).parents[2] / "build" / "e2e"
"""The folder in which failed end-to-end tests save logs and manifests."""

ZONE = "topology.kubernetes.io/zone"


@dataclass(frozen=True)
class Namespace:
    """One namespace of the cluster."""

    name: str

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the namespace and return its stdout. The test fails if kubectl fails."""
        return tool("kubectl", "--namespace", self.name, *arguments).stdout

    def apply(self, manifest: Json) -> None:
        """Apply a manifest with `kubectl apply`."""
        tool("kubectl", "--namespace", self.name, "apply", "--filename=-", given=json.dumps(manifest))

    def refused(self, *arguments: str) -> str:
        """Run a kubectl command that must fail, and return its stderr."""
        done = tool("kubectl", "--namespace", self.name, *arguments, check=False)
        assert done.returncode, f"kubectl {' '.join(arguments)} was expected to fail, but said: {done.stdout}"
        return done.stderr

    def get(self, *what: str) -> Json:
        """Return an object or a list from the cluster, as parsed JSON."""
        found: Json = json.loads(self.kubectl("get", *what, "--output=json"))
        return found

    def items(self, *what: str) -> list[Json]:
        """Return the objects of a list."""
        found: list[Json] = self.get(*what)["items"]
        return found

    def status(self, videojob: str) -> Json:
        """Return the status of a VideoJob, or an empty dict if the VideoJob has no status or does not exist."""
        found = self.kubectl("get", "videojob", videojob, "--ignore-not-found", "--output=json")
        status: Json = json.loads(found).get("status", {}) if found else {}
        return status

    def pods(self, component: str) -> list[Json]:
        """Return the release's pods of the given component, except pods that are being deleted."""
        pods = self.items("pods", "--selector", f"app.kubernetes.io/component={component}")
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    @contextmanager
    def forwarded(self, service: str, port: int, *, to: int | None = None) -> Iterator[str]:
        """Forward the local port `to`, by default a free port, to a port of the service. Yields the local URL."""
        local = to or free_port()

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", local)) == 0

        command = [
            *(shutil.which("kubectl") or "kubectl", "--namespace", self.name, "port-forward"),
            *("--address=127.0.0.1", f"service/{service}", f"{local}:{port}"),
        ]
        with tethered(command, folder=Path(tempfile.mkdtemp(prefix="anb-forward-")), ready=answers):
            yield f"http://127.0.0.1:{local}"

    def save_evidence(self, folder: Path) -> None:
        """Save data that may explain a failure: manifests and logs of all pods, events, VideoJobs, scaling."""
        folder.mkdir(parents=True, exist_ok=True)
        for what in ("pods", "events", "videojobs", "scaledobjects", "horizontalpodautoscalers", "deployments", "jobs"):
            self._save(folder / f"{what}.yaml", "get", what, "--output=yaml")
        self._save(folder / "events.txt", "get", "events", "--sort-by=.lastTimestamp")
        self._save(folder / "pods.txt", "get", "pods", "--output=wide")
        names = tool("kubectl", "--namespace", self.name, "get", "pods", "--output=name", check=False).stdout.split()
        for name in names:
            log = folder / f"{name.rpartition('/')[2]}.log"
            self._save(log, "logs", name, "--all-containers", "--prefix")
            self._save(log.with_suffix(".previous.log"), "logs", name, "--all-containers", "--previous")

    def _save(self, path: Path, *arguments: str) -> None:
        done = tool("kubectl", "--namespace", self.name, *arguments, check=False)
        if done.returncode == 0:
            path.write_text(done.stdout, encoding="utf-8")


@contextmanager
def watched(command: list[str], output: Path) -> Iterator[Path]:
    """Run a command in the background until the `with` block ends. Yields the path of a file with the output."""
    with output.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield output
    finally:
        process.terminate()
        process.wait(10)


def zones(pods: list[Json]) -> set[str]:
    """Return the zones of the nodes on which the given pods run."""
    nodes = {node["metadata"]["name"]: node["metadata"]["labels"] for node in Namespace("default").items("nodes")}
    return {nodes[pod["spec"]["nodeName"]][ZONE] for pod in pods}


def ready(pod: Json) -> bool:
    """Return whether the pod's condition Ready is true."""
    conditions = pod["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def delete_videojobs(namespace: str) -> None:
    """Delete all VideoJobs of a namespace and remove their finalizers, without the help of an operator.

    `delete_videojobs` also works while Kubernetes deletes the namespace and its objects.
    """
    ours = ("kubectl", "--namespace", namespace)
    # Delete before removing the finalizers, because no finalizer can be added to an object that is being deleted.
    tool(*ours, "delete", "videojobs", "--all", "--wait=false", check=False)
    for name in tool(*ours, "get", "videojobs", "--output=name").stdout.split():
        tool(*ours, "patch", name, "--type=merge", '--patch={"metadata":{"finalizers":null}}', check=False)


def delete_namespaces(*names: str) -> None:
    """Delete namespaces and wait until the deletion is complete."""
    tool("kubectl", "delete", "namespace", *names, "--ignore-not-found", "--wait=false")
    for name in names:
        eventually(
            lambda name=name: not tool("kubectl", "get", "namespace", name, "--ignore-not-found").stdout,  # type: ignore[misc]
            within=180,
            every=1,
        )
