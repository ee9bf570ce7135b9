"""The environment of bench.mirror: a database, a Kubernetes API server, operators, and a watch of VideoJobs."""

import json
import ssl
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import httpx
import psutil

from anb_core.adapters.database import SqlStore, upgrade
from anb_core.ports.store import Store
from anb_operator.crd import text
from anb_operator.videojob import GROUP, PLURAL
from tests.support import eventually
from tests.support.apiserver import ApiServer, running_apiserver
from tests.support.aws import running_moto
from tests.support.postgres import running_postgres
from tests.support.tether import free_port

WORKERS = 100
"""Number of worker pods in the cluster."""

CLAIMED, DONE = 1, 102
"""The stage of a video: 0 before the claim, `CLAIMED` + percentage during the processing, and then `DONE`."""

PATIENCE = 900.0
"""Timeout for each wait for the operator or kubectl, in seconds."""

NAMESPACE = "anb"
WORKER = "app=worker"
SHOWN = r"jsonpath={.metadata.name} {.status.phase} {.status.progress}{'\n'}"


class Change(NamedTuple):
    """A change of a video. `place` is the video's new stage. `asked` is the monotonic time of the store call."""

    video_id: str
    place: int
    asked: float


class Watch:
    """All lines that `kubectl get videojobs --watch` has printed so far, with their times."""

    def __init__(self) -> None:
        self._printed: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
        self._ended = False

    def read(self, lines: Iterable[str]) -> None:
        """Read lines until the stream ends."""
        for line in lines:
            video_id, phase, progress = line.rstrip("\n").split(" ")
            if phase:
                self._printed[video_id].append((time.monotonic(), _place(phase, progress)))
        self._ended = True

    def videos(self) -> list[str]:
        """The ids of all printed videos."""
        return list(self._printed)

    def lines(self, since: float) -> int:
        """Number of lines printed since the monotonic time `since`."""
        return sum(at >= since for printed in self._printed.values() for at, _ in printed)

    def lag(self, change: Change) -> float | None:
        """Seconds from a change to the first line that shows the change. None if no line shows the change yet."""
        for at, place in self._printed.get(change.video_id, ()):
            if at >= change.asked and place >= change.place:
                return at - change.asked
        return None

    def wait_for(self, changes: Iterable[Change]) -> None:
        """Wait until kubectl has printed all given changes.

        Raises:
            AssertionError: a change was not printed in time, or kubectl ended.
        """
        awaited = {change.video_id: change for change in changes}

        def all_printed() -> bool:
            for change in [change for change in awaited.values() if self.lag(change) is not None]:
                del awaited[change.video_id]
            if awaited and self._ended:
                raise AssertionError("kubectl get --watch has ended before it showed everything")
            return not awaited

        eventually(all_printed, within=PATIENCE, every=0.1)


class Site:
    """A database, and a Kubernetes API server with one namespace. The method `operator` starts an operator for both."""

    def __init__(self, apiserver: ApiServer, database: str, moto: str, folder: Path) -> None:
        self.store: Store = SqlStore(database)
        self._apiserver = apiserver
        self._kubeconfig = apiserver.service_account(NAMESPACE, "operator")
        self._log = folder / "operator.log"
        self._environment = {
            "KUBECONFIG": str(self._kubeconfig),
            "DATABASE_URL": database,
            "S3_BUCKET": "bucket",
            "SQS_QUEUE_URL": f"{moto}/123456789012/queue",
            "AWS_ENDPOINT_URL": moto,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "ANB_CREATE_RESOURCES": "true",
            "ANB_OPERATOR_NAMESPACE": NAMESPACE,
            "ANB_OPERATOR_WORKER_SELECTOR": WORKER,
        }

    @contextmanager
    def operator(self) -> Iterator[psutil.Process]:
        """Run an operator process and wait until it is ready. If the `with` block fails, print the operator's log."""
        environment = self._environment | {"ANB_OPERATOR_LISTEN": f"127.0.0.1:{free_port()}"}
        with self._log.open("wb") as log:
            process = subprocess.Popen([sys.executable, "-m", "anb_operator"], stdout=log, stderr=log, env=environment)

        def ready() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"the operator ended with {process.returncode}")
            try:
                url = f"http://{environment['ANB_OPERATOR_LISTEN']}/readyz"
                return httpx.get(url, trust_env=False, timeout=10).is_success
            except httpx.TransportError:
                return False

        try:
            eventually(ready, within=PATIENCE)
            yield psutil.Process(process.pid)
        except AssertionError:
            sys.stderr.write(self._log.read_text(encoding="utf-8"))
            raise
        finally:
            process.terminate()
            process.wait(30)

    @contextmanager
    def watch(self) -> Iterator[Watch]:
        """Run `kubectl get videojobs --watch`, which prints all existing VideoJobs and then every change."""
        command = (*self._apiserver.command, "--namespace", NAMESPACE, "get", "videojobs", "--watch", "--output", SHOWN)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as kubectl:
            watch = Watch()
            reader = Thread(target=watch.read, args=(kubectl.stdout,))
            reader.start()
            try:
                yield watch
            finally:
                kubectl.terminate()
                reader.join()

    @contextmanager
    def client(self) -> Iterator[httpx.Client]:
        """An HTTP client of the API server, with the operator's credentials."""
        config = json.loads(self._kubeconfig.read_text(encoding="utf-8"))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        trusted = ssl.create_default_context(cafile=cluster["certificate-authority"])
        headers = {"Authorization": f"Bearer {user['token']}"}
        with httpx.Client(base_url=cluster["server"], verify=trusted, headers=headers, trust_env=False) as client:
            yield client


@contextmanager
def opened() -> Iterator[Site]:
    """Start all servers, and stop the servers at the end of the `with` block."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(running_postgres()).create_database()
        upgrade(database)
        moto = stack.enter_context(running_moto())
        apiserver = stack.enter_context(running_apiserver())
        manifests = folder / "manifests.yaml"
        manifests.write_text(text(), encoding="utf-8")
        apiserver.kubectl("create", "--filename", str(manifests))
        apiserver.kubectl("wait", "--for=condition=Established", f"crd/{PLURAL}.{GROUP}", "--timeout=30s")
        apiserver.kubectl("create", "namespace", NAMESPACE)
        manifests.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": _pods()}), encoding="utf-8")
        apiserver.kubectl("--namespace", NAMESPACE, "create", "--filename", str(manifests))
        site = Site(apiserver, database, moto, folder)
        stack.callback(site.store.close)
        yield site


def _place(phase: str, progress: str) -> int:
    match phase:
        case "processing":
            return CLAIMED + int(progress.removesuffix("%"))
        case "processed":
            return DONE
    return 0


def worker_names(number: int) -> list[str]:
    """The names of the first `number` workers."""
    return [f"worker-{n}" for n in range(number)]


def _pods() -> list[dict[str, object]]:
    """Pods for all workers. The operator needs the pods of busy workers, to set the deletion costs of the pods."""
    label, _, value = WORKER.partition("=")
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {label: value}},
            "spec": {"containers": [{"name": "worker", "image": "none"}]},
        }
        for name in worker_names(WORKERS)
    ]
