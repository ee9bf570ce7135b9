"""Says which IAM permissions the recorded calls of a component need, and compares them with deploy/aws/roles.yaml."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from tools.aws import ACCOUNT, REGION, permissions, plan

BUCKET, QUEUE, DEAD_LETTER_QUEUE = "anb-films", "films", "films-dlq"
QUEUES = f"arn:aws:sqs:{REGION}:{ACCOUNT}"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:films"

ACTIONS = {
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "DeleteObjects": "s3:DeleteObject",
    "SendMessageBatch": "sqs:SendMessage",
    "ReceiveMessage": "sqs:ReceiveMessage",
    "DeleteMessage": "sqs:DeleteMessage",
    "ChangeMessageVisibility": "sqs:ChangeMessageVisibility",
    "GetQueueAttributes": "sqs:GetQueueAttributes",
    "Publish": "sns:Publish",
    "PutMetricData": "cloudwatch:PutMetricData",
}
"""Maps each API call to the IAM action that the call needs. Some actions have other names than their calls."""

Permission = tuple[str, str]
"""An action and the ARN of a resource."""


def permissions_for(operation: str, params: Mapping[str, Any]) -> set[Permission]:
    """Return the permissions that a call with these parameters needs."""
    needed = {(ACTIONS[operation], arn) for arn in _resources_of(params)}
    if operation == "HeadObject":
        # Without this permission, S3 answers 403 instead of 404 about an object that does not exist.
        needed.add(("s3:ListBucket", f"arn:aws:s3:::{params['Bucket']}"))
    return needed


def _resources_of(params: Mapping[str, Any]) -> list[str]:
    """Return the ARNs of the resources in the parameters of a call."""
    match params:
        case {"Bucket": bucket, "Key": key}:
            return [f"arn:aws:s3:::{bucket}/{key}"]
        case {"Bucket": bucket, "Delete": {"Objects": objects}}:
            return [f"arn:aws:s3:::{bucket}/{item['Key']}" for item in objects]
        case {"Bucket": bucket}:
            return [f"arn:aws:s3:::{bucket}"]
        case {"QueueUrl": url}:
            return [f"{QUEUES}:{url.rpartition('/')[2]}"]
        case {"TopicArn": topic}:
            return [topic]
        case {"Namespace": "ANBVideo"}:
            return ["*"]
    raise AssertionError(f"a call with parameters of a new kind: {params}")


def missing(role: str, needed: set[Permission]) -> set[Permission]:
    """Return the needed permissions that the role lacks."""
    granted = _granted(role)
    return {need for need in needed if not any(_matches(need, grant) for grant in granted)}


def unused(role: str, needed: set[Permission]) -> set[Permission]:
    """Return the permissions of the role that are not needed."""
    return {grant for grant in _granted(role) if not any(_matches(need, grant) for need in needed)}


def _granted(role: str) -> set[Permission]:
    existing = {
        "ExistingQueue": QUEUE,
        "ExistingDeadLetterQueue": DEAD_LETTER_QUEUE,
        "ExistingBucket": BUCKET,
        "ExistingTopic": TOPIC,
    }
    return {(action, arn) for name, action, arn in permissions(plan(existing)) if name == role}


def _matches(need: Permission, grant: Permission) -> bool:
    return need[0] == grant[0] and fnmatchcase(need[1], grant[1])
