"""Tests that every preset renders to manifests that Kubernetes, KEDA and the CRD of VideoJobs accept."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.support.chart import CHART, KUBERNETES, PRESETS, Manifest, strict_schema, tool

Render = Callable[..., list[Manifest]]

# Valid release names that YAML parses as a boolean, null or a number if the names are not quoted.
ODD_NAMES = ("y", "on", "null", "true", "e3")


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_manifest_of_every_preset_is_valid_strictly(version: str, render: Render) -> None:
    # Remove duplicates first, because each validation reads a schema of several megabytes, which is slow.
    manifests = {json.dumps(manifest, sort_keys=True) for preset in PRESETS for manifest in render(preset, version)}
    kinds = set()
    for manifest in map(json.loads, sorted(manifests)):
        kinds.add(manifest["kind"])
        if not manifest["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(manifest, version, strict=True)
    assert {"Deployment", "Service", "Ingress", "Job", "Pod", "ClusterRole", "CustomResourceDefinition"} <= kinds


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem.removesuffix("-values"))
def test_the_keda_resources_of_each_preset_fit_kedas_own_schemas(
    preset: Path, render: Render, keda_schemas: dict[str, Manifest]
) -> None:
    values = yaml.safe_load(preset.read_text(encoding="utf-8"))
    scaled = values.get("worker", {}).get("autoscaling", {}).get("enabled", True)
    found = [manifest for manifest in render(preset) if manifest["apiVersion"] == "keda.sh/v1alpha1"]
    for manifest in found:
        jsonschema.validate(manifest, keda_schemas[manifest["kind"]])
    assert {manifest["kind"] for manifest in found} == ({"ScaledObject", "TriggerAuthentication"} if scaled else set())


def test_the_example_fits_our_own_schema(videojob_definition: Manifest) -> None:
    example = yaml.safe_load((CHART.parents[1] / "docs" / "examples" / "videojob.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(example, strict_schema(videojob_definition))


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_release_with_an_odd_name_has_that_name_in_every_manifest(name: str, render: Render) -> None:
    for preset in PRESETS:
        manifests = render(preset, name=name)
        assert all(manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == name for manifest in manifests)
        assert not [text for manifest in manifests for text in _names(manifest) if not isinstance(text, str)]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem.removesuffix("-values"))
def test_no_pod_has_more_than_the_restricted_profile_allows(preset: Path, render: Render) -> None:
    pods = list(_pods(render(preset)))
    assert len(pods) >= 5
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["runAsGroup"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()
        assert pod["enableServiceLinks"] is False
        (volume,) = pod["volumes"]
        assert volume.keys() == {"name", "emptyDir"}
        assert volume["emptyDir"].keys() == {"sizeLimit"}
        for container in pod["containers"]:
            assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/tmp/anb-temp"}]
            assert {"name": "TMPDIR", "value": "/tmp/anb-temp"} in container["env"]
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"].keys() == {"requests", "limits"}


def test_only_the_operator_and_its_clean_up_get_a_token_of_kubernetes(render: Render) -> None:
    preset = CHART / "ci" / "kind-values.yaml"
    trusted = {pod["serviceAccountName"] for pod in _pods(render(preset)) if pod["automountServiceAccountToken"]}
    assert trusted == {"anb-operator", "anb-operator-uninstall"}


def test_the_descheduler_handles_every_pod_that_the_chart_spreads(render: Render) -> None:
    values = yaml.safe_load((CHART.parents[1] / "deploy" / "descheduler-values.yaml").read_text(encoding="utf-8"))
    [profile] = values["deschedulerPolicy"]["profiles"]
    plugins = {plugin["name"]: plugin["args"] for plugin in profile["pluginConfig"]}
    handled = plugins["RemovePodsViolatingTopologySpreadConstraint"]
    for preset in PRESETS:
        templates = [manifest["spec"]["template"] for manifest in render(preset) if manifest["kind"] == "Deployment"]
        spread = [template for template in templates if "topologySpreadConstraints" in template["spec"]]
        assert len(spread) == 2
        for template in spread:
            assert handled["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
            assert template["spec"]["topologySpreadConstraints"][0]["whenUnsatisfiable"] in handled["constraints"]


def test_only_secrets_hold_what_is_secret(render: Render, tmp_path: Path) -> None:
    values = yaml.safe_load((CHART / "ci" / "secret-values.yaml").read_text(encoding="utf-8"))
    values["queue"]["celery"] = {"url": "redis://:not-a-real-broker-password@redis.example.com:6379/0"}
    values["worker"]["autoscaling"]["enabled"] = True
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    secrets = (
        "not-a-real-broker-password",
        values["database"]["url"],
        values["aws"]["secret"]["accessKeyId"],
        values["aws"]["secret"]["secretAccessKey"],
        values["bootstrapToken"]["value"],
    )
    for manifest in render(path):
        text = yaml.safe_dump(manifest, width=10**6)
        assert not any(secret in text for secret in secrets)


def test_the_charts_own_tests_pass() -> None:
    tool("helm-unittest", "--strict", "--file", "tests/**/*_test.yaml", str(CHART))


def test_lint_finds_nothing() -> None:
    for preset in PRESETS:
        tool("helm", "lint", "--strict", "--quiet", "--kube-version", KUBERNETES[-1], "-f", str(preset), str(CHART))


def test_values_that_can_not_work_are_refused_with_every_reason_at_once() -> None:
    done = tool("helm", "template", "anb", str(CHART), "--kube-version", KUBERNETES[-1], check=False)
    assert done.returncode
    for reason in ("queue.url is not set", "bucket.name is not set", "No database", "worker.roleArn is not set"):
        assert reason in done.stderr


def _names(part: Any) -> Iterator[Any]:
    """Yield all names and label values of a manifest."""
    match part:
        case dict():
            for key, value in part.items():
                if key in {"name", "namespace", "serviceAccountName"} and not isinstance(value, dict):
                    yield value
                elif key in {"labels", "matchLabels", "selector", "annotations"} and "matchLabels" not in value:
                    yield from value.values()
                else:
                    yield from _names(value)
        case list():
            for item in part:
                yield from _names(item)


def _pods(manifests: list[Manifest]) -> Iterator[dict[str, Any]]:
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            yield manifest["spec"]
        elif "template" in manifest.get("spec", {}):
            yield manifest["spec"]["template"]["spec"]
