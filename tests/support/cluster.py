"""The cluster of KUBECONFIG, as kubectl shows it."""

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
"""What failed end-to-end tests leave for a person to read."""

ZONE = "topology.kubernetes.io/zone"


@dataclass(frozen=True)
class Namespace:
    """One namespace of it."""

    name: str

    def kubectl(self, *arguments: str) -> str:
        """What the command says on stdout; the test fails when it fails."""
        return tool("kubectl", "--namespace", self.name, *arguments).stdout

    def apply(self, manifest: Json) -> None:
        """As `kubectl apply` does it."""
        tool("kubectl", "--namespace", self.name, "apply", "--filename=-", given=json.dumps(manifest))

    def refused(self, *arguments: str) -> str:
        """What a command says that must fail."""
        done = tool("kubectl", "--namespace", self.name, *arguments, check=False)
        assert done.returncode, f"kubectl {' '.join(arguments)} was expected to fail, but said: {done.stdout}"
        return done.stderr

    def get(self, *what: str) -> Json:
        """An object, or a list."""
        found: Json = json.loads(self.kubectl("get", *what, "--output=json"))
        return found

    def items(self, *what: str) -> list[Json]:
        """The objects of a list."""
        found: list[Json] = self.get(*what)["items"]
        return found

    def status(self, videojob: str) -> Json:
        """The status of a VideoJob; empty while there is none, or no such VideoJob."""
        found = self.kubectl("get", "videojob", videojob, "--ignore-not-found", "--output=json")
        status: Json = json.loads(found).get("status", {}) if found else {}
        return status

    def pods(self, component: str) -> list[Json]:
        """The release's pods of this component that are not being deleted."""
        pods = self.items("pods", "--selector", f"app.kubernetes.io/component={component}")
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    @contextmanager
    def forwarded(self, service: str, port: int, *, to: int | None = None) -> Iterator[str]:
        """The service's port on 127.0.0.1, on a free port or this one; the value is its URL."""
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
        """Write what may explain a failure: manifests and logs of all pods, events, VideoJobs, scaling."""
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
    """What a command that never ends says, in a file."""
    with output.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield output
    finally:
        process.terminate()
        process.wait(10)


def zones(pods: list[Json]) -> set[str]:
    """The zones of the nodes that these pods run on."""
    nodes = {node["metadata"]["name"]: node["metadata"]["labels"] for node in Namespace("default").items("nodes")}
    return {nodes[pod["spec"]["nodeName"]][ZONE] for pod in pods}


def ready(pod: Json) -> bool:
    """Whether it says so itself."""
    conditions = pod["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def delete_videojobs(namespace: str) -> None:
    """Delete those of a namespace, whatever holds them: nobody may be there to take the finalizers off.

    The namespace may be emptied by Kubernetes at the same time.
    """
    ours = ("kubectl", "--namespace", namespace)
    # No finalizer can be put on what is being deleted.
    tool(*ours, "delete", "videojobs", "--all", "--wait=false", check=False)
    for name in tool(*ours, "get", "videojobs", "--output=name").stdout.split():
        tool(*ours, "patch", name, "--type=merge", '--patch={"metadata":{"finalizers":null}}', check=False)


def delete_namespaces(*names: str) -> None:
    """Delete namespaces and wait until they are gone."""
    tool("kubectl", "delete", "namespace", *names, "--ignore-not-found", "--wait=false")
    for name in names:
        eventually(
            lambda name=name: not tool("kubectl", "get", "namespace", name, "--ignore-not-found").stdout,  # type: ignore[misc]
            within=180,
            every=1,
        )
