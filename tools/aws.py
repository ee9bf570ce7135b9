"""Shows the plan of deploy/aws, and turns the outputs of its stacks into input for eksctl and helm.

`plan` needs no AWS account. `cluster` and `values` read the JSON of `aws cloudformation describe-stacks` from stdin.
"""

import json
import re
import string
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "deploy" / "aws"
TEMPLATES = ("network", "data", "roles", "alarms")
"""The templates in the order of their deployment. The stack of each one is called anb-video-<template>."""

PREFIX = "anb-video-"
ACCOUNT, REGION = "123456789012", "us-east-1"
"""The account and the region that a plan shows. A plan does not use a real account."""

Json = dict[str, Any]
Node = Any
"""A part of a template: a map, a list, or a single value."""


class Mistake(Exception):
    """A message for the person who runs the command."""


class _Loader(yaml.SafeLoader):
    """Reads the short forms of CloudFormation's functions, such as !Ref, as their long forms."""


def _function(loader: _Loader, name: str, node: yaml.Node) -> Json:
    value: Node = loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None
    if isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    if name == "GetAtt":
        value = value.split(".", 1)
    return {name if name == "Ref" else f"Fn::{name}": value}


_Loader.add_multi_constructor("!", _function)


@cache
def read_template(name: str) -> Json:
    """Return a template of deploy/aws, with its functions in their long forms."""
    template: Json = yaml.load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    return template


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack as CloudFormation would create it. A value in < > is known only after the creation."""

    template: str
    resources: Mapping[str, Json]
    """The type and the properties of each resource whose condition holds."""
    outputs: Mapping[str, str]


def plan(parameters: Mapping[str, str]) -> list[Stack]:
    """Return all stacks. Each template gets those of `parameters` that it declares, and defaults for its others.

    Raises:
        Mistake: no template declares one of the parameters.
    """
    templates = {name: read_template(name) for name in TEMPLATES}
    declared = {name for template in templates.values() for name in template["Parameters"]}
    if unknown := sorted(parameters.keys() - declared):
        raise Mistake(f"No template has the parameter {', '.join(unknown)}. There are: {', '.join(sorted(declared))}.")
    exports: dict[str, str] = {}
    stacks = []
    for name, template in templates.items():
        values = _Values(template, PREFIX + name, parameters, exports)
        resources = {key: values.of(item) for key, item in template["Resources"].items() if values.exists(item)}
        items = {key: item for key, item in template.get("Outputs", {}).items() if values.exists(item)}
        outputs = {key: str(values.of(item["Value"])) for key, item in items.items()}
        exports |= {values.of(item["Export"]["Name"]): outputs[key] for key, item in items.items() if "Export" in item}
        stacks.append(Stack(name, resources, outputs))
    return stacks


class _Values:
    """Replaces the functions of one template by their values."""

    def __init__(self, template: Json, stack: str, parameters: Mapping[str, str], exports: Mapping[str, str]) -> None:
        self._conditions: Json = template.get("Conditions", {})
        self._exports = exports
        self._names: dict[str, Node] = {
            name: _typed(parameters.get(name, declared.get("Default", "")), declared["Type"])
            for name, declared in template["Parameters"].items()
        } | {
            "AWS::AccountId": ACCOUNT,
            "AWS::NoValue": None,
            "AWS::Partition": "aws",
            "AWS::Region": REGION,
            "AWS::StackName": stack,
            "AWS::URLSuffix": "amazonaws.com",
        }

    def exists(self, item: Json) -> bool:
        """Return whether the condition of a resource or an output holds."""
        return "Condition" not in item or self._holds(item["Condition"])

    def of(self, node: Node) -> Node:
        """Return a part of the template with all functions replaced. Parts with the value AWS::NoValue are left out."""
        found: Node = node
        match node:
            case {"Ref": name}:
                found = self._names.get(name, f"<{name}>")
            case {"Fn::GetAtt": [name, attribute]}:
                found = f"<{name}.{attribute}>"
            case {"Fn::If": [condition, yes, no]}:
                found = self.of(yes if self._holds(condition) else no)
            case {"Fn::ImportValue": name}:
                found = self._exports[self.of(name)]
            case {"Fn::Sub": [text, own]}:
                found = self._sub(text, self.of(own))
            case {"Fn::Sub": text}:
                found = self._sub(text, {})
            case dict():
                found = {key: value for key, item in node.items() if (value := self.of(item)) is not None}
            case list():
                found = [value for item in node if (value := self.of(item)) is not None]
        return found

    def _holds(self, condition: str) -> bool:
        match self._conditions[condition]:
            case {"Fn::Not": [{"Fn::Equals": [left, right]}]}:
                return bool(self.of(left) != self.of(right))
            case {"Fn::Equals": [left, right]}:
                return bool(self.of(left) == self.of(right))
            case other:
                raise NotImplementedError(f"a condition that is neither !Equals nor !Not [!Equals]: {other}")

    def _sub(self, text: str, own: Mapping[str, str]) -> str:
        return re.sub(r"\$\{([^}]+)\}", lambda found: str(own.get(found[1]) or self.of({"Ref": found[1]})), text)


def _typed(value: str, kind: str) -> Node:
    return int(value) if kind == "Number" else value


def permissions(stacks: Sequence[Stack]) -> Iterator[tuple[str, str, str]]:
    """Yield each permission of the roles: the name of the role, the action, and the resource, which may end in *."""
    for stack in stacks:
        for name, resource in stack.resources.items():
            for policy in resource.get("Properties", {}).get("Policies", []):
                for statement in policy["PolicyDocument"]["Statement"]:
                    for action in _listed(statement["Action"]):
                        for target in _listed(statement["Resource"]):
                            yield name, action, target


def _listed(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]


def outputs_of(stacks: Sequence[Stack]) -> dict[str, str]:
    """Return the outputs of planned stacks, and their account and region."""
    outputs = {name: value for stack in stacks for name, value in stack.outputs.items()}
    return {"Account": ACCOUNT, "Region": REGION, **outputs}


def outputs_of_aws(described: Json) -> dict[str, str]:
    """Return the outputs of our stacks from the answer of DescribeStacks, and their account and region.

    Raises:
        Mistake: one of the stacks that the cluster and the chart need is missing.
    """
    ours = {stack["StackName"]: stack for stack in described["Stacks"] if stack["StackName"].startswith(PREFIX)}
    for name in ("network", "data", "roles"):
        if PREFIX + name not in ours:
            raise Mistake(f"There is no stack {PREFIX}{name} in this account and region: deploy {name}.yaml first.")
    outputs = {item["OutputKey"]: item["OutputValue"] for stack in ours.values() for item in stack.get("Outputs", [])}
    # A stack's id is arn:aws:cloudformation:REGION:ACCOUNT:stack/NAME/UUID.
    region, account = ours[PREFIX + "data"]["StackId"].split(":")[3:5]
    return {"Account": account, "Region": region, **outputs}


def cluster(outputs: Mapping[str, str]) -> str:
    """Return deploy/aws/cluster.yaml with the outputs filled in.

    Raises:
        Mistake: the roles are for IRSA.
    """
    if outputs["Credentials"] != "podIdentity":
        raise Mistake("The cluster file needs roles for Pod Identity: deploy roles.yaml without OidcProvider first.")
    return string.Template((FOLDER / "cluster.yaml").read_text(encoding="utf-8")).substitute(outputs)


def values(outputs: Mapping[str, str]) -> Json:
    """Return the chart's values for the cluster of deploy/aws/cluster.yaml."""
    registry = f"{outputs['Account']}.dkr.ecr.{outputs['Region']}.amazonaws.com"
    irsa = outputs["Credentials"] == "irsa"
    roles = {
        name: {"roleArn": outputs[f"{name.capitalize()}Role"]} if irsa else {} for name in ("api", "worker", "operator")
    }
    return {
        "image": {"registry": registry},
        "queue": {"url": outputs["QueueUrl"], "deadLetterUrl": outputs["DeadLetterQueueUrl"]},
        "bucket": {"name": outputs["BucketName"]},
        "database": {"existingSecret": "anb-database"},
        "bootstrapToken": {"existingSecret": "anb-bootstrap-token"},
        "aws": {"region": outputs["Region"], "credentials": outputs["Credentials"]},
        "alerts": {"snsTopicArn": outputs["TopicArn"]},
        "metrics": {"cloudwatch": {"namespace": "ANBVideo"}},
        # An ALB still sends requests to a pod for some seconds after the pod began to stop.
        "api": {"preStopSeconds": 20, **roles["api"]},
        "worker": {
            "nodeSelector": {"anb.video/nodes": "workers"},
            "tolerations": [{"key": "anb.video/nodes", "value": "workers", "effect": "NoSchedule"}],
            # The Cluster Autoscaler removes a node only after KEDA has removed its worker.
            "podAnnotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
            **roles["worker"],
        },
        **({"operator": roles["operator"]} if irsa else {}),
        "ingress": {
            "enabled": True,
            "className": "alb",
            "alb": {"subnets": [outputs["PublicSubnet1"], outputs["PublicSubnet2"]]},
        },
    }


def show(stacks: Sequence[Stack]) -> str:
    """Return the plan as text: the stacks with their resources, the permissions, the cluster file and the values."""
    outputs = outputs_of(stacks)
    parts = ["This is a plan, made without an account. What AWS decides is in < >."]
    for stack in stacks:
        width = max(map(len, stack.resources), default=0)
        rows = [_row(name, resource, width) for name, resource in stack.resources.items()]
        parts += [f"Stack {PREFIX}{stack.template}, from deploy/aws/{stack.template}.yaml", "\n".join(rows)]
    rows = [f"  {role:13} {action:29} {target}" for role, action, target in permissions(stacks)]
    parts += ["What the roles may do", "\n".join(rows)]
    if outputs["Credentials"] == "podIdentity":
        lines = [line for line in cluster(outputs).splitlines() if line and not line.lstrip().startswith("#")]
        parts += ["The cluster, from deploy/aws/cluster.yaml", textwrap.indent("\n".join(lines), "  ")]
    parts += ["The chart's values", textwrap.indent(_yaml(values(outputs)), "  ")]
    return "\n\n".join(parts)


def _row(name: str, resource: Json, width: int) -> str:
    """Return the name, the type and the properties of a resource, without long or unimportant properties."""
    left_out = {"AlarmActions", "AlarmDescription", "AssumeRolePolicyDocument", "OKActions", "Policies", "Tags"}
    properties = {key: value for key, value in resource.get("Properties", {}).items() if key not in left_out}
    shown = ", ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in properties.items()
    )
    start = f"  {name:{width}}  {resource['Type'].removeprefix('AWS::'):34}"
    return "\n".join(textwrap.wrap(start + shown, 120, subsequent_indent=" " * 8, break_long_words=False))


def _yaml(data: Json) -> str:
    return yaml.safe_dump(data, sort_keys=False)


def main(arguments: Sequence[str]) -> int:
    """Run a command and return the exit code. `plan` takes parameters of the templates as NAME=VALUE."""
    try:
        sys.stdout.write(_run(arguments))
    except Mistake as mistake:
        sys.stderr.write(f"{mistake}\n")
        return 2
    return 0


def _run(arguments: Sequence[str]) -> str:
    match arguments:
        case ["plan", *parameters]:
            return show(plan(_parsed(parameters)))
        case ["cluster"]:
            return cluster(outputs_of_aws(_described()))
        case ["values"]:
            return _yaml(values(outputs_of_aws(_described())))
        case _:
            raise Mistake("Usage: python -m tools.aws plan [NAME=VALUE ...] | cluster | values")


def _described() -> Json:
    text = sys.stdin.read()
    if not text.strip():
        raise Mistake("AWS gave no list of stacks: see the message of the aws command.")
    described: Json = json.loads(text)
    return described


def _parsed(parameters: Sequence[str]) -> dict[str, str]:
    pairs = [parameter.partition("=") for parameter in parameters]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise Mistake(f"A parameter has the form NAME=VALUE, but {wrong[0]} has not.")
    return {name: value for name, _, value in pairs}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
