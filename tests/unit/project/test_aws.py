"""Tests of tools/aws.py, which shows the plan of deploy/aws and writes input for eksctl and helm."""

import io
import json
import re
import runpy
import sys
from typing import Any

import jsonschema
import pytest
import yaml

from tests.support.chart import CHART
from tools import aws


def described(*, without: str = "", **changed: str) -> str:
    """Return the JSON of `aws cloudformation describe-stacks` for the planned stacks, among other stacks."""
    region = "eu-west-1"
    ours = [
        {
            "StackName": aws.PREFIX + stack.template,
            "StackId": f"arn:aws:cloudformation:{region}:210987654321:stack/{aws.PREFIX}{stack.template}/1",
            "Outputs": [
                {"OutputKey": key, "OutputValue": changed.get(key, value)} for key, value in stack.outputs.items()
            ],
        }
        for stack in aws.plan({})
        if stack.template != without
    ]
    other = {"StackName": "eksctl-other", "StackId": "arn:aws:cloudformation:eu-west-1:210987654321:stack/other/1"}
    return json.dumps({"Stacks": [other, *ours]})


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str, given: str = "") -> str:
    """Run a command that succeeds, with `given` as its stdin, and return its stdout."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    assert aws.main(arguments) == 0
    return capsys.readouterr().out


def merged(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return the chart's defaults with the values, as Helm merges them."""
    both = {key: merged(defaults[key], value) for key, value in values.items() if isinstance(defaults.get(key), dict)}
    return {**defaults, **values, **both}


def test_the_plan_shows_stacks_permissions_cluster_and_values(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = run(capsys, monkeypatch, "plan")

    for stack in aws.plan({}):
        assert f"Stack anb-video-{stack.template}, from deploy/aws/{stack.template}.yaml" in shown
        assert all(f"\n  {name} " in shown for name in stack.resources)
    assert "WorkerRole    s3:PutObject                  arn:aws:s3:::<Bucket>/processed/*" in shown
    assert "instanceType: t3.medium" in shown
    assert "credentials: podIdentity" in shown
    assert max(map(len, shown.splitlines())) <= 120


def test_parameters_change_the_plan(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run(capsys, monkeypatch, "plan", "ExistingQueue=processing-queue", "QueueRetentionSeconds=1209600")

    assert "https://sqs.us-east-1.amazonaws.com/123456789012/processing-queue" in shown
    assert "arn:aws:sqs:us-east-1:123456789012:processing-queue" in shown
    assert "anb-video-processing-queue" not in shown


def test_a_plan_for_irsa_has_no_cluster_file_because_the_cluster_exists_already(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = run(capsys, monkeypatch, "plan", "OidcProvider=oidc.eks.us-east-1.amazonaws.com/id/0A")

    assert "ClusterConfig" not in shown
    assert "credentials: irsa" in shown
    assert "roleArn: <WorkerRole.Arn>" in shown


def test_the_values_fit_the_chart_and_name_what_the_stacks_created(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = described(QueueUrl="https://sqs.eu-west-1.amazonaws.com/210987654321/films", BucketName="films")
    values = yaml.safe_load(run(capsys, monkeypatch, "values", given=given))

    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(merged(defaults, values), schema)
    assert values["queue"]["url"] == "https://sqs.eu-west-1.amazonaws.com/210987654321/films"
    assert values["bucket"]["name"] == "films"
    assert values["aws"] == {"region": "eu-west-1", "credentials": "podIdentity"}
    assert values["image"]["registry"] == "210987654321.dkr.ecr.eu-west-1.amazonaws.com"
    assert "roleArn" not in values["worker"]


def test_the_workers_of_the_values_are_placed_on_the_nodes_for_workers_and_are_never_evicted_to_save_a_node(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = yaml.safe_load(run(capsys, monkeypatch, "values", given=described()))
    cluster = yaml.safe_load(run(capsys, monkeypatch, "cluster", given=described()))

    groups = [group for group in cluster["managedNodeGroups"] if group["name"].startswith("workers")]
    assert {zone for group in groups for zone in group["availabilityZones"]} == {"us-east-1a", "us-east-1b"}
    for group in groups:
        assert group["labels"] == values["worker"]["nodeSelector"]
        assert group["taints"] == values["worker"]["tolerations"]
        assert group["propagateASGTags"]
    annotations = values["worker"]["podAnnotations"]
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"


def test_no_pod_gets_the_credentials_of_its_node() -> None:
    cluster = yaml.safe_load(aws.cluster(aws.outputs_of(aws.plan({}))))

    assert [group["disablePodIMDS"] for group in cluster["managedNodeGroups"]] == [True] * 3


def test_the_cluster_gets_the_networks_zones_and_subnets_and_the_roles(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = described(Zone1="eu-west-1b", PrivateSubnet1="subnet-1", ApiRole="arn:aws:iam::210987654321:role/api")
    cluster = yaml.safe_load(run(capsys, monkeypatch, "cluster", given=given))

    assert cluster["metadata"]["region"] == "eu-west-1"
    assert cluster["vpc"]["subnets"]["private"]["eu-west-1b"] == {"id": "subnet-1"}
    roles = {item["serviceAccountName"]: item.get("roleARN") for item in cluster["iam"]["podIdentityAssociations"]}
    assert roles["anb-api"] == "arn:aws:iam::210987654321:role/api"
    assert roles.keys() == {
        "anb-api",
        "anb-worker",
        "anb-operator",
        "keda-operator",
        "cluster-autoscaler",
        "aws-load-balancer-controller",
    }


@pytest.mark.parametrize(
    ("arguments", "given", "message"),
    [
        ([], "", "Usage:"),
        (["destroy"], "", "Usage:"),
        (["plan", "ExistingQueue"], "", "A parameter has the form NAME=VALUE, but ExistingQueue has not."),
        (["plan", "Queue=x"], "", "No template has the parameter Queue. There are: AlertEmail, "),
        (["values"], '{"Stacks": []}', "There is no stack anb-video-network in this account and region"),
        (["values"], described(without="roles"), "There is no stack anb-video-roles in this account and region"),
        (["values"], "", "AWS gave no list of stacks"),
        (["cluster"], described(Credentials="irsa"), "The cluster file needs roles for Pod Identity"),
    ],
)
def test_a_mistake_is_explained(
    arguments: list[str],
    given: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))

    assert aws.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert captured.out == ""


def test_the_guide_says_for_each_permission_what_fails_without_it() -> None:
    guide = (aws.FOLDER.parents[1] / "docs" / "aws.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+:\w+)` \| ([\w, ]+) \| (.+) \|$", guide, re.MULTILINE)

    explained = {(f"{role.capitalize()}Role", action) for action, roles, _ in rows for role in roles.split(", ")}
    assert explained == {(role, action) for role, action, _ in aws.permissions(aws.plan({}))}


def test_the_guide_names_every_alarm_and_every_stack() -> None:
    guide = (aws.FOLDER.parents[1] / "docs" / "aws.md").read_text(encoding="utf-8")

    for stack in aws.plan({}):
        assert f"--stack-name anb-video-{stack.template} --template-file deploy/aws/{stack.template}.yaml" in guide
        assert f"delete-stack --stack-name anb-video-{stack.template}" in guide
        names = [name for name, resource in stack.resources.items() if resource["Type"] == "AWS::CloudWatch::Alarm"]
        assert all(f"| `{name}` |" in guide for name in names)


def test_the_guide_says_how_to_keep_a_node_for_workers_in_each_zone() -> None:
    guide = (aws.FOLDER.parents[1] / "docs" / "aws.md").read_text(encoding="utf-8")

    groups = [group["name"] for group in yaml.safe_load(aws.cluster(aws.outputs_of(aws.plan({}))))["managedNodeGroups"]]
    for name in groups[1:]:
        assert f"eksctl scale nodegroup --cluster anb-video --name {name} --nodes-min 1 --nodes 1\n" in guide


def test_the_guide_names_every_parameter() -> None:
    guide = (aws.FOLDER.parents[1] / "docs" / "aws.md").read_text(encoding="utf-8")

    parameters = {name for template in aws.TEMPLATES for name in aws.read_template(template)["Parameters"]}
    # These two are names of stacks, which are always the same.
    assert not [name for name in parameters - {"Network", "Data"} if not re.search(rf"\b{name}\b", guide)]


def test_a_condition_that_the_tool_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    read = aws.read_template

    def changed(name: str) -> dict[str, Any]:
        template = read(name)
        return template | {"Conditions": {name: {"Fn::Or": []} for name in template["Conditions"]}}

    monkeypatch.setattr(aws, "read_template", changed)
    with pytest.raises(NotImplementedError, match="Fn::Or"):
        aws.plan({})


def test_the_module_is_a_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["aws.py"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(aws.__file__, run_name="__main__")

    assert ended.value.code == 2
    assert "Usage" in capsys.readouterr().err
