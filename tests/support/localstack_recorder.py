"""LocalStack runs this script when it is ready. From then on, it writes each new kind of call to the file CALLS.

recorded_calls.py reads the file. LocalStack finds a file of a ConfigMap twice, so each line is there twice.
"""

import json
from pathlib import Path
from typing import Any

from localstack.aws.handlers import run_custom_response_handlers  # type: ignore[import-not-found]

CALLS = Path("/tmp/calls")

written: set[str] = set()


def record(_chain: Any, context: Any, _response: Any) -> None:
    """Write the user agent, whether the URL is signed, the operation, and the parameters that name resources."""
    if context.operation is None or context.is_internal_call:
        return
    request = context.service_request
    params = {name: request[name] for name in ("Bucket", "QueueUrl", "TopicArn", "Namespace") if request.get(name)}
    if request.get("Key"):
        params["Key"] = folder(request["Key"])
    if request.get("Delete"):
        folders = {folder(item["Key"]) for item in request["Delete"]["Objects"]}
        params["Delete"] = {"Objects": [{"Key": key} for key in sorted(folders)]}
    agent, signed = context.request.headers.get("User-Agent", ""), "X-Amz-Signature" in context.request.args
    line = json.dumps([agent, signed, context.operation.name, params])
    if line not in written:
        written.add(line)
        with CALLS.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def folder(key: str) -> str:
    """Return the first folder of a key, because otherwise each video would be a new kind of call."""
    return key.partition("/")[0] + "/*"


run_custom_response_handlers.append(record)
