"""A simulated worker, as a program for a pod. It receives messages as the real worker does, but each job is a pause.

So a job may last minutes without any CPU time. The program needs only Python, and SQS does not check signatures.

After SIGTERM it begins no job. A running job may end within DRAIN_SECONDS, as with the real worker; otherwise the
message is handed on at once, and the job begins again elsewhere. Each attempt is reported to the queue REPORTS_URL.
"""

import json
import os
import signal
import ssl
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urljoin

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def work(stop: Event, *, queue: str, reports: str, job_seconds: float, drain_seconds: float, wait: int = 20) -> None:
    """Process the messages of the URL `queue` until `stop` is set. A receive waits for `wait` seconds."""
    while not stop.is_set():
        answer = ask("ReceiveMessage", queue, MaxNumberOfMessages=1, WaitTimeSeconds=wait)
        for message in answer.get("Messages", []):
            receipt = message["ReceiptHandle"]
            if stop.is_set():
                ask("ChangeMessageVisibility", queue, ReceiptHandle=receipt, VisibilityTimeout=0)
                return
            began = time.time()
            mark(busy=True)
            done = not stop.wait(job_seconds) or finished(began + job_seconds, drain_seconds)
            if done:
                ask("DeleteMessage", queue, ReceiptHandle=receipt)
            else:
                ask("ChangeMessageVisibility", queue, ReceiptHandle=receipt, VisibilityTimeout=0)
            attempt = {"began": began, "ended": time.time(), "done": done, "stopped": stop.is_set()}
            ask("SendMessage", reports, MessageBody=json.dumps(json.loads(message["Body"]) | attempt))
            mark(busy=False)


def ask(operation: str, queue: str, **parameters: object) -> Any:
    """Call SQS, again and again if it does not answer. Returns its answer."""
    request = urllib.request.Request(  # noqa: S310 - the URL is a setting
        urljoin(queue, "/"),
        data=json.dumps({"QueueUrl": queue, **parameters}).encode(),
        headers={
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"AmazonSQS.{operation}",
            "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request",
        },
    )
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return json.loads(answer.read() or "{}")
        except OSError as error:
            sys.stderr.write(f"{error}\n")
            time.sleep(1)


def finished(end: float, drain_seconds: float) -> bool:
    """Wait until the job's end, but for at most `drain_seconds`. Returns whether the job has ended."""
    rest = end - time.time()
    time.sleep(max(0.0, min(rest, drain_seconds)))
    return rest <= drain_seconds


def mark(*, busy: bool) -> None:
    """Set the pod's deletion cost as the operator does, so that a scale-in takes idle pods first."""
    if not ACCOUNT.exists():
        return
    host = os.environ["KUBERNETES_SERVICE_HOST"]
    space = (ACCOUNT / "namespace").read_text(encoding="ascii")
    cost = {"controller.kubernetes.io/pod-deletion-cost": "1000" if busy else None}
    request = urllib.request.Request(
        f"https://{host}/api/v1/namespaces/{space}/pods/{os.environ['HOSTNAME']}",
        method="PATCH",
        data=json.dumps({"metadata": {"annotations": cost}}).encode(),
        headers={
            "Authorization": f"Bearer {(ACCOUNT / 'token').read_text(encoding='ascii')}",
            "Content-Type": "application/merge-patch+json",
        },
    )
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with suppress(OSError), urllib.request.urlopen(request, context=context, timeout=10):  # noqa: S310
        pass


def main() -> None:
    """Process messages until SIGTERM."""
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    work(
        stop,
        queue=os.environ["QUEUE_URL"],
        reports=os.environ["REPORTS_URL"],
        job_seconds=float(os.environ["JOB_SECONDS"]),
        drain_seconds=float(os.environ["DRAIN_SECONDS"]),
    )


if __name__ == "__main__":
    main()
