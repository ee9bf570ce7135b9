"""Runs real operator processes on the real Kubernetes API server of KUBECONFIG. The cluster needs no nodes.

Each test deployment (`Site`) has its own namespace, PostgreSQL database and bucket. Tests play the role of workers.
"""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support import eventually
from tests.support.chart import CHART, KUBERNETES, PRESETS, tool
from tests.support.cluster import delete_videojobs
from tests.support.parts import Parts, opened_parts
from tests.support.postgres import Postgres
from tests.support.tether import free_port

Json = dict[str, Any]


class Operator:
    """One operator process, which writes its log to a file."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.url = f"http://{environment['ANB_OPERATOR_LISTEN']}"
        self._log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "anb_operator"], stdout=output, stderr=output, env=os.environ | environment
            )

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False, timeout=10).status_code == 200
        except httpx.TransportError:
            if self.process.poll() is not None:
                raise AssertionError(f"the operator ended with {self.process.returncode}:\n{self.log}") from None
            return False

    def get(self, path: str) -> str:
        """Send a GET request. Returns the response body, or an empty string if the connection fails."""
        try:
            return httpx.get(f"{self.url}{path}", trust_env=False, timeout=10).text
        except httpx.TransportError:
            return ""

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


class Site:
    """A test deployment: a namespace, a database and a bucket. The test starts operators in the deployment."""

    def __init__(self, parts: Parts, environment: dict[str, str], folder: Path) -> None:
        self.parts = parts
        self.store = parts.store
        self.environment = environment
        self.namespace = environment["ANB_OPERATOR_NAMESPACE"]
        self.folder = folder

    @contextmanager
    def operator(self, **changes: str) -> Iterator[Operator]:
        environment = {**self.environment, "ANB_OPERATOR_LISTEN": f"127.0.0.1:{free_port()}", **changes}
        operator = Operator(environment, self.folder / "operator.log")
        try:
            yield operator
        finally:
            operator.kill()
            sys.stdout.write(operator.log)

    @contextmanager
    def ready_operator(self, **changes: str) -> Iterator[Operator]:
        with self.operator(**changes) as operator:
            eventually(operator.ready, every=0.2)
            yield operator

    def put(self, key: str) -> None:
        with self.parts.objects.writing(key, content_type="video/mp4") as writer:
            writer.write(b"a video")
            writer.commit()

    def kubectl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return tool("kubectl", "-n", self.namespace, *arguments, check=check)

    def apply(self, name: str, spec: Json) -> None:
        manifest = {"apiVersion": "anb.video/v1alpha1", "kind": "VideoJob", "metadata": {"name": name}, "spec": spec}
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(manifest), encoding="utf-8")
        self.kubectl("apply", "-f", str(path))

    def patch(self, name: str, spec: Json) -> None:
        self.kubectl("patch", "videojob", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def videojobs(self) -> dict[str, Json]:
        items = json.loads(self.kubectl("get", "videojobs", "-o", "json").stdout)["items"]
        return {item["metadata"]["name"]: item for item in items}

    def status(self, name: str) -> Json:
        """Return the status of a VideoJob, or an empty dict if the VideoJob or its status does not exist."""
        found: Json = self.videojobs().get(name, {}).get("status", {})
        return found

    def eventually_status(self, name: str, holds: Callable[[Json], object]) -> Json:
        last: Json = {}

        def reached() -> bool:
            last.clear()
            last.update(self.status(name))
            return bool(last and holds(last))

        try:
            eventually(reached, every=0.2)
        except AssertionError:
            raise AssertionError(f"the status of {name} stays {json.dumps(last, indent=2)}") from None
        return last

    def phase(self, name: str, phase: str) -> Json:
        return self.eventually_status(name, lambda status: status.get("phase") == phase)

    def events(self, name: str) -> list[tuple[str, str]]:
        """Return the reason and the message of each Event about a VideoJob, oldest first."""
        items = json.loads(self.kubectl("get", "events", "-o", "json").stdout)["items"]
        about = [item for item in items if item["involvedObject"]["name"] == name]
        about.sort(key=lambda item: int(item["metadata"]["resourceVersion"]))
        return [(item["reason"], item["message"]) for item in about]


Sites = Callable[[Path], AbstractContextManager[Site]]


@pytest.fixture(scope="session")
def sites(_videojobs_known: None, postgres: Postgres, moto_url: str) -> Sites:
    """A function that creates a test deployment: `with sites(folder) as site`."""

    @contextmanager
    def opened(folder: Path) -> Iterator[Site]:
        namespace = f"operator-{uuid.uuid4().hex[:8]}"
        database = postgres.create_database()
        environment = {
            "DATABASE_URL": database,
            "S3_BUCKET": f"bucket-{uuid.uuid4().hex[:8]}",
            "SQS_QUEUE_URL": f"{moto_url}/123456789012/queue",
            "SQS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": moto_url,
            "AWS_REGION": "us-east-1",
            "ANB_CREATE_RESOURCES": "true",
            "ANB_OPERATOR_NAMESPACE": namespace,
            "ANB_OPERATOR_DEPLOYMENT": "anb-operator",
            "ANB_OPERATOR_WORKER_SELECTOR": "app=worker",
        }
        with ExitStack() as stack:
            with pytest.MonkeyPatch.context() as patch:
                for name, value in environment.items():
                    patch.setenv(name, value)
                parts = stack.enter_context(opened_parts())
            tool("kubectl", "create", "namespace", namespace)
            # Create the ServiceAccount `default` for pods, because a cluster without controllers does not create it.
            tool("kubectl", "-n", namespace, "create", "serviceaccount", "default", check=False)
            environment["KUBECONFIG"] = str(rights_of_the_chart(namespace, folder, "role"))
            yield Site(parts, environment, folder)
        tool("kubectl", "delete", "namespace", namespace, "--wait=false")
        delete_videojobs(namespace)
        postgres.drop_database(database)

    return opened


@pytest.fixture
def site(sites: Sites, tmp_path: Path) -> Iterator[Site]:
    """A new test deployment without an operator. The test starts the operators."""
    with sites(tmp_path) as site:
        yield site


@pytest.fixture(scope="session")
def served(sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A test deployment with one running operator. Many tests share the deployment, each with its own videos."""
    with sites(tmp_path_factory.mktemp("served")) as site, site.ready_operator():
        yield site


@pytest.fixture
def name() -> str:
    """A unique name for a VideoJob."""
    return f"clip-{uuid.uuid4().hex[:8]}"


def rights_of_the_chart(
    namespace: str, folder: Path, template: str, *values: str, account: str = "anb-operator"
) -> Path:
    """Return a KUBECONFIG for a ServiceAccount with exactly the rights that the given chart template grants."""
    rights = folder / f"{template}.yaml"
    options = ("-n", namespace, "-f", str(PRESETS[0]), "--kube-version", KUBERNETES[0], *values)
    only = f"--show-only=templates/operator/{template}.yaml"
    rendered = tool("helm", "template", "anb", str(CHART), *options, only).stdout
    wanted = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    manifests = [manifest for manifest in yaml.safe_load_all(rendered) if manifest and manifest["kind"] in wanted]
    rights.write_text(yaml.safe_dump_all(manifests), encoding="utf-8")
    tool("kubectl", "-n", namespace, "create", "serviceaccount", account, check=False)
    tool("kubectl", "-n", namespace, "apply", "-f", str(rights))
    config = json.loads(tool("kubectl", "config", "view", "--raw", "--minify", "-o", "json").stdout)
    token = tool("kubectl", "-n", namespace, "create", "token", account).stdout.strip()
    config["users"][0]["user"] = {"token": token}
    path = folder / f"kubeconfig-{template}"
    path.write_text(json.dumps(config), encoding="utf-8")
    # Wait, because the API server applies new roles only after a moment.
    granted = ("kubectl", f"--kubeconfig={path}", "-n", namespace, "auth", "can-i", "--list")
    eventually(lambda: "videojobs" in tool(*granted).stdout, every=0.2)
    return path
