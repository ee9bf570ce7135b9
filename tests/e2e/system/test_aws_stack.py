"""Deploys the templates of deploy/aws to a LocalStack of their own, and makes the alarms fire.

LocalStack has no RDS and no addresses for NAT gateways, so the templates use an existing network and database here.
LocalStack does not evaluate an alarm that computes with two metrics, so WorkersAtMaximum is only deployed.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
import pytest
import yaml

from tests.support.cluster import Namespace
from tests.support.release import LOCAL, ROOT
from tests.support.waiting import eventually
from tools.aws import FOLDER, TEMPLATES, plan

NAME = "localstack-aws"
SERVICES = "s3,sqs,sns,cloudformation,cloudwatch,ec2,iam,sts"
EXISTING = {"ExistingDatabase": "films", "PageOrigin": "https://videos.example.com"}

NORMAL = {
    ("ANBVideo", "OpenDeadLetters", "Release", "video/anb"): 0,
    ("ANBVideo", "OldestWaitingSeconds", "Release", "video/anb"): 900,
    ("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", "anb-video-processing-dlq"): 300,
    ("AWS/RDS", "FreeStorageSpace", "DBInstanceIdentifier", "films"): 2**31,
    ("AWS/RDS", "DatabaseConnections", "DBInstanceIdentifier", "films"): 65,
}
"""A value of each metric at which its alarm only just does not fire, by namespace, name and dimension."""

ALARMING = dict(zip(NORMAL, (1, 901, 301, 2**31 - 1, 66), strict=True))


@pytest.fixture(scope="module")
def aws_url(installed: object) -> Iterator[str]:  # noqa: ARG001 - the namespace must exist
    """The URL of a LocalStack with the services that the templates need. The release has another LocalStack."""
    text = (ROOT / "deploy" / "local" / "localstack.yaml").read_text(encoding="utf-8")
    text = text.replace('"s3,sqs,sns,cloudwatch"', json.dumps(SERVICES)).replace("localstack}", f"{NAME}}}")
    for manifest in yaml.safe_load_all(text.replace("name: localstack\n", f"name: {NAME}\n")):
        if manifest["kind"] == "Deployment":
            [container] = manifest["spec"]["template"]["spec"]["containers"]
            container["env"].append({"name": "SQS_CLOUDWATCH_METRICS_REPORT_INTERVAL", "value": "10"})
        LOCAL.apply(manifest)
    try:
        LOCAL.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=5m")
        with Namespace(LOCAL.name).forwarded(NAME, 4566) as url:
            yield url
    finally:
        LOCAL.kubectl("delete", "deployment,service", NAME)


@pytest.fixture(scope="module")
def aws(aws_url: str) -> Any:
    """A function that returns a client of a service."""

    def client(service: Any) -> Any:
        return boto3.client(service, endpoint_url=aws_url, region_name="us-east-1")

    return client


@pytest.fixture(scope="module")
def stacks(aws: Any) -> dict[str, dict[str, str]]:
    """Deploy all templates. Returns the outputs of each stack."""
    ec2 = aws("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.20.{number}.0/24")["Subnet"]["SubnetId"] for number in range(4)
    ]
    names = ("ExistingPublicSubnet1", "ExistingPublicSubnet2", "ExistingPrivateSubnet1", "ExistingPrivateSubnet2")
    given = {"ExistingVpc": vpc, **dict(zip(names, subnets, strict=True)), **EXISTING}
    return {template: _deploy(aws("cloudformation"), template, given) for template in TEMPLATES}


def _deploy(cloudformation: Any, template: str, given: Mapping[str, str]) -> dict[str, str]:
    text = (FOLDER / f"{template}.yaml").read_text(encoding="utf-8")
    # The test would be slow if the alarms evaluated one or several whole minutes.
    quick = text.replace("Period: 60", "Period: 10").replace("EvaluationPeriods: 5", "EvaluationPeriods: 1")
    [stack] = [stack for stack in plan(dict(given)) if stack.template == template]
    name = f"anb-video-{template}"
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=quick.replace("EvaluationPeriods: 3\n", "EvaluationPeriods: 1\n"),
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value}
            for key, value in given.items()
            if f"\n  {key}:\n" in text.partition("\nResources:")[0]
        ],
        Capabilities=["CAPABILITY_IAM"],
    )
    described = eventually(lambda: _finished(cloudformation, name), within=120, every=1)
    assert described["StackStatus"] == "CREATE_COMPLETE", described
    created = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    assert {resource["LogicalResourceId"] for resource in created} == stack.resources.keys()
    for resource in created:
        # LocalStack gives such an id to resources of types that it does not support.
        assert not resource["PhysicalResourceId"].lower().startswith("unknown"), resource
    return {item["OutputKey"]: item["OutputValue"] for item in described.get("Outputs", [])}


def _finished(cloudformation: Any, name: str) -> Any:
    [stack] = cloudformation.describe_stacks(StackName=name)["Stacks"]
    return stack if not stack["StackStatus"].endswith("IN_PROGRESS") else None


def test_the_bucket_is_closed_and_lets_the_page_upload(aws: Any, stacks: dict[str, dict[str, str]]) -> None:
    s3, bucket = aws("s3"), stacks["data"]["BucketName"]

    assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
    [rule] = s3.get_bucket_cors(Bucket=bucket)["CORSRules"]
    assert (rule["AllowedOrigins"], rule["ExposeHeaders"]) == (["https://videos.example.com"], ["ETag"])


def test_every_alarm_fires_and_tells_the_topic(aws: Any, stacks: dict[str, dict[str, str]]) -> None:
    sqs, cloudwatch = aws("sqs"), aws("cloudwatch")
    inbox = sqs.create_queue(QueueName="alarms")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=inbox, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    aws("sns").subscribe(TopicArn=stacks["data"]["TopicArn"], Protocol="sqs", Endpoint=arn)

    def states(values: Mapping[tuple[str, str, str, str], float]) -> dict[str, str]:
        for (namespace, metric, dimension, of), value in values.items():
            data = {"MetricName": metric, "Dimensions": [{"Name": dimension, "Value": of}], "Value": value}
            cloudwatch.put_metric_data(Namespace=namespace, MetricData=[data])
        alarms = cloudwatch.describe_alarms()["MetricAlarms"]
        return {alarm["MetricName"]: alarm["StateValue"] for alarm in alarms if "MetricName" in alarm}

    # Missing data makes each alarm fire. Only the length of the queue is never missing: the queue itself reports it. A
    # missing age means that the queue is empty.
    missing = {metric: "ALARM" for _, metric, _, _ in NORMAL if metric != "ApproximateAgeOfOldestMessage"}
    eventually(lambda: states({}).items() >= missing.items(), within=120, every=2)
    eventually(lambda: set(states(NORMAL).values()) == {"OK"}, within=120, every=2)
    sqs.purge_queue(QueueUrl=inbox)
    # The sixth metric, the number of messages in the dead-letter queue, comes from a real message.
    sqs.send_message(QueueUrl=stacks["data"]["DeadLetterQueueUrl"], MessageBody="nobody receives this")
    eventually(lambda: set(states(ALARMING).values()) == {"ALARM"}, within=120, every=2)

    told: set[str] = set()

    def all_told() -> bool:
        for message in sqs.receive_message(QueueUrl=inbox, MaxNumberOfMessages=10).get("Messages", []):
            notice = json.loads(json.loads(message["Body"])["Message"])
            if notice["NewStateValue"] == "ALARM":
                told.add(notice["AlarmName"])
            sqs.delete_message(QueueUrl=inbox, ReceiptHandle=message["ReceiptHandle"])
        return len(told) == len(NORMAL) + 1

    eventually(all_told, within=60, every=1)
