"""Deploys the templates of deploy/aws to moto, in this process, and looks at what moto created.

moto raises a warning about a type of resource that it does not know, and in tests a warning is an error.
"""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tools.aws import FOLDER, PREFIX, TEMPLATES, outputs_of_aws, plan, read_template

KNOWN_TO_MOTO = tuple(name for name in TEMPLATES if name != "alarms")

CLUSTER = "oidc.eks.us-east-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"

Json = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def _moto() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        # moto intercepts only requests to the addresses of AWS. In tests, AWS_ENDPOINT_URL names a closed port.
        patch.delenv("AWS_ENDPOINT_URL")
        with mock_aws():
            yield


def deploy(template: str, stack: str, **parameters: str) -> Json:
    """Create a stack and return its outputs."""
    cloudformation = boto3.client("cloudformation")
    cloudformation.create_stack(
        StackName=stack,
        TemplateBody=(FOLDER / f"{template}.yaml").read_text(encoding="utf-8"),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    assert described["StackStatus"] == "CREATE_COMPLETE"
    return {item["OutputKey"]: item["OutputValue"] for item in described["Outputs"]}


def resources(stack: str) -> dict[str, str]:
    """Return the physical id of each resource of a stack."""
    found = boto3.client("cloudformation").list_stack_resources(StackName=stack)["StackResourceSummaries"]
    # If the condition of a resource does not hold, moto lists the resource without a logical id.
    return {item["LogicalResourceId"]: item["PhysicalResourceId"] for item in found if item["LogicalResourceId"]}


@pytest.fixture(scope="module")
def outputs(_moto: None) -> Json:
    """The outputs of all stacks that moto can create."""
    found: Json = {}
    for name in KNOWN_TO_MOTO:
        own = {"AlertEmail": "ops@example.com"} if name == "data" else {}
        found |= deploy(name, PREFIX + name, **own)
    return found


def test_the_plan_names_the_resources_and_outputs_that_are_created(outputs: Json) -> None:
    planned = [stack for stack in plan({}) if stack.template in KNOWN_TO_MOTO]

    for stack in planned:
        assert stack.resources.keys() == resources(PREFIX + stack.template).keys()
    assert {name for stack in planned for name in stack.outputs} == outputs.keys()


def test_the_tool_reads_the_outputs_of_the_stacks(outputs: Json) -> None:
    described = json.loads(json.dumps(boto3.client("cloudformation").describe_stacks(), default=str))

    assert outputs_of_aws(described) == {"Account": "123456789012", "Region": "us-east-1", **outputs}


def test_each_private_subnet_leaves_through_the_nat_gateway_of_its_zone_and_reaches_s3_directly(outputs: Json) -> None:
    ec2, ids = boto3.client("ec2"), resources("anb-video-network")
    zones = {subnet["SubnetId"]: subnet["AvailabilityZone"] for subnet in ec2.describe_subnets()["Subnets"]}
    gateways = {item["NatGatewayId"]: item["SubnetId"] for item in ec2.describe_nat_gateways()["NatGateways"]}
    tables = {table["RouteTableId"]: table["Routes"] for table in ec2.describe_route_tables()["RouteTables"]}
    [endpoint] = ec2.describe_vpc_endpoints()["VpcEndpoints"]

    for number, zone in (("1", "us-east-1a"), ("2", "us-east-1b")):
        private, public = outputs[f"PrivateSubnet{number}"], outputs[f"PublicSubnet{number}"]
        assert zones[private] == zones[public] == zone
        # moto does not show which route table a subnet has. So the test reads it from the plan.
        table = ids[_planned("network", f"PrivateRoutesOfSubnet{number}")["RouteTableId"].strip("<>")]
        assert [gateways[route["NatGatewayId"]] for route in tables[table] if "NatGatewayId" in route] == [public]
        assert table in endpoint["RouteTableIds"]
        table = ids[_planned("network", f"PublicRoutes{number}")["RouteTableId"].strip("<>")]
        assert ids["InternetGateway"] in [route.get("GatewayId") for route in tables[table]]
    assert endpoint["ServiceName"] == "com.amazonaws.us-east-1.s3"


def test_the_queues_have_the_times_that_the_programs_expect(outputs: Json) -> None:
    sqs = boto3.client("sqs")
    queue = sqs.get_queue_attributes(QueueUrl=outputs["QueueUrl"], AttributeNames=["All"])["Attributes"]
    dead = sqs.get_queue_attributes(QueueUrl=outputs["DeadLetterQueueUrl"], AttributeNames=["All"])["Attributes"]

    assert queue["QueueArn"].endswith(":anb-video-processing-queue")
    assert queue["VisibilityTimeout"] == "300"
    assert queue["ReceiveMessageWaitTimeSeconds"] == "20"
    assert queue["MessageRetentionPeriod"] == str(4 * 86400)
    assert queue["MaximumMessageSize"] == str(256 * 1024)
    assert json.loads(queue["RedrivePolicy"]) == {"deadLetterTargetArn": dead["QueueArn"], "maxReceiveCount": 3}
    assert dead["QueueArn"] == outputs["DeadLetterQueueArn"]
    assert dead["MessageRetentionPeriod"] == str(14 * 86400)


def test_the_bucket_is_private_and_encrypted_and_drops_only_unfinished_uploads(outputs: Json) -> None:
    encryption = boto3.client("s3").get_bucket_encryption(Bucket=outputs["BucketName"])
    [rule] = encryption["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert outputs["BucketArn"] == f"arn:aws:s3:::{outputs['BucketName']}"

    # moto ignores these properties.
    bucket = _planned("data", "Bucket")
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert bucket["LifecycleConfiguration"]["Rules"] == [
        {"Id": "unfinished-uploads", "Status": "Enabled", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}
    ]
    assert "CorsConfiguration" not in bucket


def test_the_page_may_upload_parts_and_read_their_etags() -> None:
    bucket = _planned("data", "Bucket", PageOrigin="https://videos.example.com")

    [rule] = bucket["CorsConfiguration"]["CorsRules"]
    assert rule["AllowedOrigins"] == ["https://videos.example.com"]
    assert {"GET", "PUT"} <= set(rule["AllowedMethods"])
    assert rule["ExposedHeaders"] == ["ETag"]


def test_the_database_is_in_both_zones_and_accepts_connections_only_from_the_nodes(outputs: Json) -> None:
    [database] = boto3.client("rds").describe_db_instances()["DBInstances"]
    access = resources("anb-video-data")["DatabaseAccess"]
    [group] = boto3.client("ec2").describe_security_groups(GroupIds=[access])["SecurityGroups"]

    assert (database["Engine"], database["DBInstanceClass"]) == ("postgres", "db.t3.micro")
    assert database["MultiAZ"]
    assert database["StorageEncrypted"]
    assert not database["PubliclyAccessible"]
    subnets = {subnet["SubnetIdentifier"] for subnet in database["DBSubnetGroup"]["Subnets"]}
    assert subnets == {outputs["PrivateSubnet1"], outputs["PrivateSubnet2"]}
    [rule] = group["IpPermissions"]
    assert (rule["FromPort"], rule["ToPort"], rule["IpRanges"]) == (5432, 5432, [])
    assert [pair["GroupId"] for pair in rule["UserIdGroupPairs"]] == [outputs["DatabaseClients"]]
    # moto gives the network's default security group to the database, so the test reads the plan.
    assert _planned("data", "Database")["VPCSecurityGroups"] == ["<DatabaseAccess.GroupId>"]


def test_the_data_outlives_the_stack_and_no_template_holds_a_password() -> None:
    # moto ignores these properties.
    data = read_template("data")["Resources"]

    assert data["Bucket"]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert data["Bucket"]["UpdateReplacePolicy"] == "Retain"
    assert data["Database"]["DeletionPolicy"] == data["Database"]["UpdateReplacePolicy"] == "Snapshot"
    assert data["Database"]["Properties"]["DeletionProtection"]
    assert data["Database"]["Properties"]["ManageMasterUserPassword"]
    assert "MasterUserPassword" not in data["Database"]["Properties"]


def test_the_topic_sends_email(outputs: Json) -> None:
    [subscription] = boto3.client("sns").list_subscriptions_by_topic(TopicArn=outputs["TopicArn"])["Subscriptions"]

    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "ops@example.com")


@pytest.mark.parametrize("component", ["api", "worker", "operator"])
def test_only_the_components_own_serviceaccount_gets_its_role(component: str, outputs: Json) -> None:
    [statement] = _trust(outputs[f"{component.capitalize()}Role"])

    assert statement["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert statement["Condition"]["StringEquals"] == {
        "aws:SourceAccount": "123456789012",
        "aws:RequestTag/kubernetes-namespace": "video",
        "aws:RequestTag/kubernetes-service-account": f"anb-{component}",
    }


@pytest.mark.usefixtures("outputs")
def test_with_irsa_the_roles_trust_the_clusters_serviceaccounts_and_keda_uses_the_workers_role() -> None:
    irsa = deploy("roles", "irsa", OidcProvider=CLUSTER, Namespace="films", Release="one")

    assert irsa["Credentials"] == "irsa"
    assert "KedaRole" not in irsa
    accounts = {}
    for component in ("Api", "Worker", "Operator"):
        [statement] = _trust(irsa[f"{component}Role"])
        assert statement["Principal"] == {"Federated": f"arn:aws:iam::123456789012:oidc-provider/{CLUSTER}"}
        assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
        conditions = statement["Condition"]["StringEquals"]
        assert conditions[f"{CLUSTER}:aud"] == "sts.amazonaws.com"
        accounts[component] = conditions[f"{CLUSTER}:sub"]
    assert accounts == {
        "Api": "system:serviceaccount:films:one-api",
        "Worker": ["system:serviceaccount:films:one-worker", "system:serviceaccount:keda:keda-operator"],
        "Operator": "system:serviceaccount:films:one-operator",
    }


@pytest.mark.usefixtures("outputs")
def test_existing_resources_are_used_and_nothing_is_created_beside_them() -> None:
    existing = deploy(
        "data",
        "existing",
        ExistingQueue="video-processing-queue",
        ExistingDeadLetterQueue="video-processing-dlq",
        ExistingBucket="anb-video-storage-42",
        ExistingDatabase="older",
        ExistingTopic="arn:aws:sns:us-east-1:123456789012:older",
    )

    assert resources("existing") == {}
    assert existing == {
        "QueueName": "video-processing-queue",
        "QueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/video-processing-queue",
        "QueueArn": "arn:aws:sqs:us-east-1:123456789012:video-processing-queue",
        "DeadLetterQueueName": "video-processing-dlq",
        "DeadLetterQueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/video-processing-dlq",
        "DeadLetterQueueArn": "arn:aws:sqs:us-east-1:123456789012:video-processing-dlq",
        "BucketName": "anb-video-storage-42",
        "BucketArn": "arn:aws:s3:::anb-video-storage-42",
        "DatabaseInstance": "older",
        "TopicArn": "arn:aws:sns:us-east-1:123456789012:older",
    }


@pytest.mark.parametrize(
    ("parameter", "existing", "left"),
    [
        ("ExistingQueue", "processing-queue", "Queue"),
        ("ExistingDeadLetterQueue", "processing-dlq", "DeadLetterQueue"),
        ("ExistingBucket", "anb-video-storage-42", "Bucket"),
        ("ExistingDatabase", "older", "Database DatabaseAccess DatabaseSubnets"),
        ("ExistingTopic", "arn:aws:sns:us-east-1:123456789012:older", "Topic"),
    ],
)
def test_each_resource_may_be_an_existing_one_by_itself(parameter: str, existing: str, left: str) -> None:
    [usual] = [stack for stack in plan({}) if stack.template == "data"]
    [stack] = [stack for stack in plan({parameter: existing}) if stack.template == "data"]

    assert usual.resources.keys() - stack.resources.keys() == set(left.split())
    assert existing in stack.outputs.values()


def test_a_new_queue_moves_its_messages_to_an_existing_dead_letter_queue() -> None:
    policy = _planned("data", "Queue", ExistingDeadLetterQueue="older-dlq")["RedrivePolicy"]

    assert policy["deadLetterTargetArn"] == "arn:aws:sqs:us-east-1:123456789012:older-dlq"


def test_an_existing_network_is_used(outputs: Json) -> None:
    given = {
        "ExistingPublicSubnet1": outputs["PublicSubnet1"],
        "ExistingPublicSubnet2": outputs["PublicSubnet2"],
        "ExistingPrivateSubnet1": outputs["PrivateSubnet1"],
        "ExistingPrivateSubnet2": outputs["PrivateSubnet2"],
    }
    existing = deploy("network", "older-network", ExistingVpc=outputs["VpcId"], **given)

    assert resources("older-network").keys() == {"DatabaseClients"}
    [group] = boto3.client("ec2").describe_security_groups(GroupIds=[existing["DatabaseClients"]])["SecurityGroups"]
    assert group["VpcId"] == existing["VpcId"] == outputs["VpcId"]
    assert {name: existing[name.removeprefix("Existing")] for name in given} == given


def _planned(template: str, name: str, **parameters: str) -> Json:
    """Return the properties of a resource in the plan."""
    [stack] = [stack for stack in plan(parameters) if stack.template == template]
    properties: Json = stack.resources[name]["Properties"]
    return properties


def _trust(role: str) -> list[Json]:
    """Return the statements of a role's trust policy."""
    found = boto3.client("iam").get_role(RoleName=role.rpartition("/")[2])["Role"]["AssumeRolePolicyDocument"]
    statements: list[Json] = found["Statement"]
    return statements
