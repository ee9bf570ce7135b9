"""A namespace of the cluster in which the chart's ScaledObjects scale simulated workers, each on a queue of its own.

KEDA, the autoscaler, the ScaledObjects and the queue's metrics are real. SQS is LocalStack, and a job is a pause of
tests/support/scaling_worker.py.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.exceptions import ConnectionError as NoConnection
from botocore.exceptions import HTTPClientError

from tests.support.chart import CHART, KUBERNETES, tool
from tests.support.cluster import Json, Namespace, delete_namespaces
from tests.support.scaling_picture import Sample
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("scaling_worker.py")
NODE = "anb.video/stand-ins"
VERSION = str(yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"])


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a job. Times are seconds since the epoch."""

    case: str
    video: int
    sent: float
    began: float
    ended: float
    done: bool
    """Whether the job was completed. Otherwise the worker was removed, and handed the job on."""
    stopped: bool
    """Whether the worker was removed during the job."""


class Site:
    """The namespace with its SQS."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self._sqs: Any = None
        self._forwarded = ExitStack()
        self._inside = f"http://localstack.{namespace.name}.svc:4566"

    def _connect(self) -> None:
        self._forwarded.close()
        self._sqs = boto3.client(
            "sqs",
            endpoint_url=self._forwarded.enter_context(self.namespace.forwarded("localstack", 4566)),
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def close(self) -> None:
        """Disconnect from SQS."""
        self._forwarded.close()

    def set_up(self) -> None:
        """Start SQS, and create what all simulated workers need."""
        tool("kubectl", "create", "namespace", self.namespace.name)
        if not tool("kubectl", "get", "nodes", "--selector", f"{NODE}=true", "--output=name").stdout:
            node, *_ = tool("kubectl", "get", "nodes", "--output=name").stdout.split()
            tool("kubectl", "label", node, f"{NODE}=true")
        ours = self.namespace.kubectl
        service, deployment = yaml.safe_load_all((ROOT / "deploy" / "local" / "localstack.yaml").read_text("utf-8"))
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        # Little is asked of it: it may start slowly, and leaves room for others.
        next(one for one in container["env"] if one["name"] == "SERVICES")["value"] = "sqs"
        container["startupProbe"]["failureThreshold"] = 600
        container["resources"]["requests"]["cpu"] = "40m"
        for manifest in (service, deployment):
            self.namespace.apply(manifest)
        keys = ("AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test")
        ours("create", "secret", "generic", "anb-aws", *(f"--from-literal={key}" for key in keys))
        ours("create", "configmap", "program", f"--from-file=worker.py={PROGRAM}")
        ours("create", "role", "marks", "--verb=patch", "--resource=pods")
        ours("create", "rolebinding", "marks", "--role=marks", f"--serviceaccount={self.namespace.name}:default")
        ours("rollout", "status", "deployment", "localstack", "--timeout=20m")
        self._connect()
        self._ask("create_queue", QueueName="reports")

    def add(self, case: str, *values: str, job_seconds: float, drain_seconds: float = 120) -> None:
        """Create a queue and its first worker, and scale the workers by the chart with the given values."""
        self._ask("create_queue", QueueName=case, Attributes={"VisibilityTimeout": "300"})
        variables = {"JOB_SECONDS": job_seconds, "DRAIN_SECONDS": drain_seconds}
        self.namespace.apply(self._deployment(case, {name: str(value) for name, value in variables.items()}))
        sets = (f"queue.url={self._url(case)}", f"aws.endpointUrl={self._inside}", *values)
        manifests = tool(
            *("helm", "template", case, str(CHART), "--namespace", self.namespace.name),
            *("--kube-version", KUBERNETES[-1], "--values", str(CHART / "ci" / "kind-values.yaml")),
            *(f"--show-only=templates/worker/{name}.yaml" for name in ("scaledobject", "triggerauthentication")),
            *(part for value in sets for part in ("--set", value)),
        ).stdout
        tool("kubectl", "apply", "--filename=-", given=manifests)

    def wait(self, cases: Sequence[str]) -> None:
        """Wait until every case has a ready worker, and an autoscaler that has read the queue."""

        def active() -> bool:
            scalers = self.namespace.items("horizontalpodautoscalers")
            conditions = [one for scaler in scalers for one in scaler.get("status", {}).get("conditions", [])]
            return sum((one["type"], one["status"]) == ("ScalingActive", "True") for one in conditions) == len(cases)

        for case in cases:
            self.namespace.kubectl("rollout", "status", "deployment", f"{case}-worker", "--timeout=10m")
        eventually(active, within=300, every=2)

    def send(self, case: str, videos: Sequence[int]) -> None:
        """Send a message for each of the videos."""
        for video in videos:
            body = json.dumps({"case": case, "video": video, "sent": time.time()})
            self._ask("send_message", QueueUrl=self._url(case), MessageBody=body)

    def look(self, cases: Sequence[str], at: float) -> dict[str, Sample]:
        """Return the messages and the pods of each case."""
        pods = self.namespace.items("pods", "--selector=case")
        found = Counter((one["metadata"]["labels"]["case"], "deletionTimestamp" in one["metadata"]) for one in pods)
        return {case: Sample(at, *self._messages(case), found[case, False], found[case, True]) for case in cases}

    def attempts(self) -> list[Attempt]:
        """Return the attempts that ended since the last call."""
        url, found = self._url("reports"), []
        while messages := self._ask("receive_message", QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                found.append(Attempt(**json.loads(message["Body"])))
                self._ask("delete_message", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return found

    def _ask(self, operation: str, **parameters: object) -> Any:
        try:
            return getattr(self._sqs, operation)(**parameters)
        except (HTTPClientError, NoConnection):
            self._connect()  # A port-forward may break.
            return getattr(self._sqs, operation)(**parameters)

    def _url(self, queue: str) -> str:
        return f"{self._inside}/000000000000/{queue}"

    def _messages(self, case: str) -> tuple[int, int]:
        answer = self._ask("get_queue_attributes", QueueUrl=self._url(case), AttributeNames=["All"])
        attributes = answer["Attributes"]
        return int(attributes["ApproximateNumberOfMessages"]), int(attributes["ApproximateNumberOfMessagesNotVisible"])

    def _deployment(self, case: str, variables: dict[str, str]) -> Json:
        variables |= {"QUEUE_URL": self._url(case), "REPORTS_URL": self._url("reports")}
        container = {
            "name": "worker",
            "image": f"anb-video/worker:{VERSION}",
            "imagePullPolicy": "IfNotPresent",
            "command": ["python", "-S", "/program/worker.py"],
            "env": [{"name": name, "value": value} for name, value in variables.items()],
            "resources": {"requests": {"cpu": "0", "memory": "24Mi"}},
            "volumeMounts": [{"name": "program", "mountPath": "/program"}],
        }
        pod = {
            "nodeSelector": {NODE: "true"},
            "terminationGracePeriodSeconds": int(float(variables["DRAIN_SECONDS"])) + 60,
            "containers": [container],
            "volumes": [{"name": "program", "configMap": {"name": "program"}}],
        }
        labels = {"case": case}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": f"{case}-worker"},
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        }


@contextmanager
def running_site(name: str) -> Iterator[Site]:
    """Set up the namespace. Afterwards Kubernetes deletes it in the background."""
    site = Site(Namespace(name))
    delete_namespaces(name)
    try:
        site.set_up()
        yield site
    finally:
        site.close()
        tool("kubectl", "delete", "namespace", name, "--wait=false")
