"""Checks the files for AWS with the tools that read them: eksctl's own schema, and Helm."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.e2e.chart.conftest import Render
from tests.support.chart import tool
from tools.aws import cluster, outputs_of, plan, values

EKSCTL = "0.230.0"


def test_the_cluster_file_fits_eksctls_schema() -> None:
    assert f"for eksctl {EKSCTL.removesuffix('.0')} or newer" in cluster(outputs_of(plan({})))
    module = tool("go", "mod", "download", "-json", f"github.com/weaveworks/eksctl@v{EKSCTL}").stdout
    path = Path(json.loads(module)["Dir"], "pkg", "apis", "eksctl.io", "v1alpha5", "assets", "schema.json")
    schema = json.loads(path.read_text(encoding="utf-8"))

    jsonschema.Draft7Validator(schema).validate(yaml.safe_load(cluster(outputs_of(plan({})))))


@pytest.mark.parametrize("provider", ["", "oidc.eks.us-east-1.amazonaws.com/id/0A"])
def test_the_chart_takes_the_values_that_are_written_from_the_stacks(
    provider: str, render: Render, tmp_path: Path
) -> None:
    known = {
        "QueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/anb-video-processing-queue",
        "DeadLetterQueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/anb-video-processing-dlq",
        "BucketName": "anb-video-123456789012-us-east-1",
        "TopicArn": "arn:aws:sns:us-east-1:123456789012:anb-video-alerts",
        "PublicSubnet1": "subnet-1",
        "PublicSubnet2": "subnet-2",
        **{f"{name}Role": f"arn:aws:iam::123456789012:role/{name}" for name in ("Api", "Worker", "Operator")},
    }
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(values(outputs_of(plan({"OidcProvider": provider})) | known)), encoding="utf-8")

    manifests = render(path)

    [ingress] = [manifest for manifest in manifests if manifest["kind"] == "Ingress"]
    assert ingress["metadata"]["annotations"]["alb.ingress.kubernetes.io/subnets"] == "subnet-1,subnet-2"
    accounts = {
        manifest["metadata"]["name"]: manifest["metadata"].get("annotations", {}).get("eks.amazonaws.com/role-arn")
        for manifest in manifests
        if manifest["kind"] == "ServiceAccount"
    }
    assert accounts["anb-worker"] == ("arn:aws:iam::123456789012:role/Worker" if provider else None)
    pods = {item["serviceAccountName"] for item in _associations() if item["namespace"] == "video"}
    assert pods <= accounts.keys()


def _associations() -> list[dict[str, str]]:
    found: list[dict[str, str]] = yaml.safe_load(cluster(outputs_of(plan({}))))["iam"]["podIdentityAssociations"]
    return found
