"""Uploads or reads at a steady rate from a pod in the cluster, while a test changes the release or the nodes."""

import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.chart import Manifest
from tests.support.cluster import EVIDENCE, Namespace
from tests.support.release import QUICK, ROOT

PROBE = ROOT / "tests" / "e2e" / "system" / "probe.py"
READER = ROOT / "tests" / "e2e" / "zone" / "reader.py"


@dataclass(frozen=True)
class Probe:
    """The running pod of the probe."""

    namespace: Namespace

    def answers(self) -> list[str]:
        """Return the lines that the probe has printed so far, one for each finished request."""
        return self.namespace.kubectl("logs", "probe").splitlines()

    def stop(self) -> list[str]:
        """Stop the probe and wait for its end. Returns the lines of all requests.

        The probe reports a hanging request only after the request's timeout.
        """
        self.namespace.kubectl("exec", "probe", "--", "sh", "-c", "kill 1")
        self.namespace.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/probe", "--timeout=90s")
        *said, number = self.answers()
        assert number.split()[0] == str(len(said))
        return said


@contextmanager
def probing(namespace: Namespace, clip: Path, manifest: Path, *, seconds: float, keep: bool = False) -> Iterator[Probe]:
    """Run the probe's pod, which uploads the clip every `seconds`. Unless `keep` is true, it deletes each video again.

    `manifest` is the path of a file for the pod's manifest.
    """
    environment = {
        "ANB_HOST": "anb-api",
        "ANB_CLIP": b64encode(clip.read_bytes()).decode(),
        "ANB_EDIT": json.dumps(QUICK),
        "ANB_SECONDS": str(seconds),
        "ANB_KEEP": "yes" if keep else "",
    }
    with _running(namespace, PROBE, environment, manifest) as probe:
        yield probe


@contextmanager
def reading(namespace: Namespace, manifest: Path, *, node: str) -> Iterator[Probe]:
    """Run the reader's pod on a node. It reads from the API every 200 ms. `tests.support.outage` judges its lines.

    `manifest` is the path of a file for the pod's manifest.
    """
    with _running(namespace, READER, {"ANB_HOST": "anb-api"}, manifest, nodeName=node) as probe:
        yield probe


@contextmanager
def _running(
    namespace: Namespace, script: Path, environment: dict[str, str], manifest: Path, **spec: object
) -> Iterator[Probe]:
    program = script.read_text(encoding="utf-8")
    pod = program_pod(namespace.pods("api")[0], "probe", program, environment)
    pod["spec"] |= spec
    manifest.write_text(json.dumps(pod), encoding="utf-8")
    namespace.kubectl("delete", "pod", "probe", "--ignore-not-found")
    namespace.kubectl("create", "--filename", str(manifest))
    namespace.kubectl("wait", "--for=condition=Ready", "pod/probe", "--timeout=60s")
    try:
        yield Probe(namespace)
    finally:
        EVIDENCE.mkdir(parents=True, exist_ok=True)
        (EVIDENCE / f"probe-{namespace.name}.log").write_text(namespace.kubectl("logs", "probe"), encoding="utf-8")
        namespace.kubectl("delete", "pod", "probe")


def program_pod(api_pod: Manifest, name: str, program: str, environment: dict[str, str]) -> Manifest:
    """Return the manifest of a pod that runs a Python program, with image and security contexts of the API's pod."""
    (container,) = api_pod["spec"]["containers"]
    token = {"secretKeyRef": {"name": "anb-bootstrap-token", "key": "ANB_BOOTSTRAP_TOKEN"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": api_pod["spec"]["securityContext"],
            "containers": [
                {
                    "name": name,
                    "image": container["image"],
                    "imagePullPolicy": container["imagePullPolicy"],
                    "securityContext": container["securityContext"],
                    "command": ["python", "-c", program],
                    # Without a request, a pod gets almost no CPU time while others use all of it.
                    "resources": {"requests": {"cpu": "50m"}},
                    "env": [
                        {"name": "ANB_TOKEN", "valueFrom": token},
                        *({"name": name, "value": value} for name, value in environment.items()),
                    ],
                }
            ],
        },
    }
