"""Records the calls that the programs of the release, and KEDA, make to the stand-in for AWS on the cluster."""

import json
import re
from pathlib import Path
from secrets import token_hex
from typing import Any

from tests.support.cluster import EVIDENCE, Namespace
from tests.support.permissions import BUCKET, DEAD_LETTER_QUEUE, QUEUE, TOPIC, Permission, permissions_for

SCRIPT = Path(__file__).with_name("localstack_recorder.py")
CALLS = "/tmp/calls"

DEAD_LETTERS = " of the dead-letter queue"
CREATING = {"CreateBucket", "CreateQueue", "SetQueueAttributes", f"GetQueueAttributes{DEAD_LETTERS}"}
"""Calls of a program that may create missing resources, as on the stand-in. On AWS it may not, so no role has them."""


def record_calls(stand_ins: Namespace) -> None:
    """Let the stand-in for AWS record calls from its start. It must not run yet."""
    stand_ins.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": stand_ins.name}})
    stand_ins.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "localstack-init"},
            "data": {SCRIPT.name: SCRIPT.read_text(encoding="utf-8")},
        }
    )


def save_calls(stand_ins: Namespace) -> None:
    """Save the record before the stand-in is removed."""
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    text = stand_ins.kubectl("exec", "deployment/localstack", "--", "cat", CALLS)
    (EVIDENCE / f"calls-{token_hex(4)}").write_text(text, encoding="utf-8")


def needed_permissions(role: str) -> set[Permission]:
    """Return the permissions for all saved calls of the component with the given role in deploy/aws/roles.yaml."""
    needed: set[Permission] = set()
    for path in EVIDENCE.glob("calls-*"):
        for line in path.read_text(encoding="utf-8").splitlines():
            agent, signed, operation, params = json.loads(line)
            if role_of(agent, signed=signed) == role:
                needed |= _permissions(operation, params)
    return needed


def role_of(agent: str, *, signed: bool) -> str | None:
    """Return the role of a caller, or None if a test made the call. `signed`: the URL contained a signature."""
    if signed:
        # A signed URL needs the permissions of the program that has signed it. Only the API signs URLs.
        return "ApiRole"
    if agent.startswith("aws-sdk-go"):
        return "KedaRole"
    component = re.search(r" app/anb-video-(\w+)", agent)
    return f"{component[1].capitalize()}Role" if component else None


def _permissions(operation: str, params: dict[str, Any]) -> set[Permission]:
    # Each release has its own bucket, queues and topic. Here they get the names of the deployment in permissions.py.
    params |= {name: known for name, known in (("Bucket", BUCKET), ("TopicArn", TOPIC)) if name in params}
    what = operation
    if "QueueUrl" in params:
        dead_letters = params["QueueUrl"].removesuffix(".fifo").endswith("-dlq")
        params["QueueUrl"] = DEAD_LETTER_QUEUE if dead_letters else QUEUE
        what += DEAD_LETTERS if dead_letters else ""
    return set() if what in CREATING else permissions_for(operation, params)
