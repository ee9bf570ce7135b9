"""What is written twice is the same in both places."""

import inspect
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from anb_api.server import DRAIN_SECONDS
from anb_api.settings import MigrationSettings
from anb_core import bootstrap
from anb_core.settings.capabilities import RetrySettings, Settings
from anb_core.settings.loading import Misconfigured, load
from anb_operator.settings import OperatorSettings, UninstallSettings, WatchScope
from tests.support.chart import CHART, KUBERNETES, PRESETS, Manifest, tool

Render = Callable[..., list[Manifest]]

ROOT = CHART.parents[1]

SET_BY_THE_CHART = {
    "ANB_API_LISTEN",
    "ANB_API_PREFIX",
    "ANB_BOOTSTRAP_TOKEN",
    "ANB_CREATE_RESOURCES",
    "ANB_DATABASE_CONNECTIONS",
    "ANB_DATABASE_CONNECTIONS_IN_ALL",
    "ANB_S3_PUBLIC_ENDPOINT",
    "ANB_SANDBOX",
    "ANB_SCRATCH_BYTES",
    "ANB_WORKER_LISTEN",
    "AWS_REGION",
    "DATABASE_URL",
    "S3_BUCKET",
    "SQS_DLQ_URL",
    "SQS_QUEUE_URL",
}
RIGHT_BY_THEMSELVES = {
    # JSON where there is no terminal, the pod's name, and the region that the queue's URL tells.
    "ANB_LOG_FORMAT",
    "ANB_WORKER_NAME",
    "SQS_REGION",
}


COMPARED = (
    # A program exits at its start when these don't fit together: it needs all of a group, or none.
    {"ANB_HEARTBEAT_SECONDS", "ANB_LEASE_SECONDS", "SQS_VISIBILITY_TIMEOUT"},
    {"ANB_BACKOFF_SECONDS", "ANB_BACKOFF_CAP_SECONDS"},
)


def test_every_setting_of_the_programs_has_its_place_in_the_chart() -> None:
    assert _aliases(Settings) == set(_readers()) | SET_BY_THE_CHART | RIGHT_BY_THEMSELVES


@pytest.mark.parametrize("program", ["api", "worker", "operator"])
def test_a_program_is_given_just_the_settings_that_it_needs(program: str) -> None:
    (room,) = import_module(f"anb_{program}").__path__
    wiring = inspect.getsource(bootstrap)
    if program == "operator":
        wiring = wiring.replace(inspect.getsource(bootstrap.Core.sweep), "")  # which it never runs
    read = _read_in(wiring, *(source.read_text(encoding="utf-8") for source in Path(room).rglob("*.py")))
    if program != "api":
        # What takes objects in is given it, and asks for it with uploads alone.
        read.remove("ANB_IDEMPOTENCY_SECONDS")
    compared = {name for group in COMPARED if group & read for name in group}
    assert _given_to(program) == (read | compared) & set(_readers())


def test_the_migration_is_given_just_the_settings_that_it_reads() -> None:
    assert _given_to("migrate") == _aliases(MigrationSettings) & set(_readers())


def test_the_operator_and_its_clean_up_are_told_all_that_they_can_be_told(render: Render) -> None:
    pods = {
        manifest["metadata"]["name"]: manifest["spec"]["template"]["spec"]["containers"][0]["env"]
        for manifest in render(CHART / "ci" / "pod-identity-values.yaml")
        if manifest["kind"] in {"Deployment", "Job"}
    }
    told = {name: {variable["name"] for variable in env} for name, env in pods.items()}
    assert {name for name in told["anb-operator"] if name.startswith("ANB_OPERATOR_")} == _aliases(
        OperatorSettings
    ) - _aliases(Settings)
    assert told["anb-operator-uninstall"] == _aliases(UninstallSettings) | {"TMPDIR"}
    assert _aliases(WatchScope) <= told["anb-operator"] & told["anb-operator-uninstall"]


def test_the_schema_knows_just_the_settings_that_pods_are_given() -> None:
    assert set(_schema()["properties"]["config"]["properties"]) == set(_readers())


def test_defaults_of_settings_are_those_of_the_programs() -> None:
    defaults = {field.alias: field.default for field in Settings.model_fields.values()}
    for name, given in _values()["config"].items():
        default = defaults[name]
        assert given == (default.total_seconds() if isinstance(default, timedelta) else default), name


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("ANB_HEARTBEAT_SECONDS", "21"),
        ("ANB_LEASE_SECONDS", "300"),
        ("SQS_VISIBILITY_TIMEOUT", "60"),
        ("ANB_BACKOFF_CAP_SECONDS", "9"),
    ],
)
def test_times_that_the_programs_refuse_are_refused_by_the_chart(
    name: str, seconds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, seconds)
    with pytest.raises(Misconfigured) as told:
        load(Settings)
    assert any(name in problem for problem in told.value.problems)
    given = ("--kube-version", KUBERNETES[-1], "-f", str(PRESETS[0]), "--set", f"config.{name}={seconds}")
    done = tool("helm", "template", "anb", str(CHART), *given, check=False)
    assert f"{name} ({seconds})" in done.stderr


def test_at_defaults_all_pods_together_open_at_most_60_connections_to_the_database(render: Render) -> None:
    manifests = render(CHART / "ci" / "pod-identity-values.yaml")
    most = {
        manifest["spec"]["scaleTargetRef"]["name"]: manifest["spec"].get("maxReplicas")
        or manifest["spec"]["maxReplicaCount"]
        for manifest in manifests
        if manifest["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"}
    }
    pods = {
        manifest["metadata"]["name"]: manifest["spec"] for manifest in manifests if manifest["kind"] == "Deployment"
    }
    opened = 1  # by the migration
    told = set()
    for name, spec in pods.items():
        env = {entry["name"]: entry.get("value") for entry in spec["template"]["spec"]["containers"][0]["env"]}
        # Where one pod replaces another, the old one may still drain.
        replaced = 1 if spec.get("strategy", {}).get("type") == "Recreate" else 2
        opened += replaced * most.get(name, spec.get("replicas")) * int(env["ANB_DATABASE_CONNECTIONS"])
        told |= {env[key] for key in env if key == "ANB_DATABASE_CONNECTIONS_IN_ALL"}
    assert len(pods) == 3
    assert opened <= 60
    assert told == {str(opened)}
    assert f"= {opened}" in (CHART / "README.md.gotmpl").read_text(encoding="utf-8")
    assert f"{opened} connections" in (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "prefixes",
    ["raw/", "raw/,cam-1/2026/", " raw/ , b/ ", ",raw/,,", " ", "raw", "raw/,b", "raw/ b/", "/raw/", "/", "a,b/"],
)
def test_prefixes_are_taken_by_the_chart_where_the_programs_take_them(
    prefixes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)  # one problem there always is
    monkeypatch.setenv("ANB_SOURCE_PREFIXES", prefixes)
    with pytest.raises(Misconfigured) as told:
        load(Settings)
    given = ("--kube-version", KUBERNETES[-1], "-f", str(PRESETS[0]))
    value = f"config.ANB_SOURCE_PREFIXES={json.dumps(prefixes)}"
    done = tool("helm", "template", "anb", str(CHART), *given, "--set-json", value, check=False)
    assert bool(done.returncode) is any("ANB_SOURCE_PREFIXES" in problem for problem in told.value.problems)


def test_bounds_in_the_schema_are_those_of_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = _schema()["properties"]
    operator = properties["operator"]["properties"]
    connections = _schema()["definitions"]["connections"]
    bounds = {name: bound for name, bound in properties["config"]["properties"].items() if "minimum" in bound} | {
        "ANB_DATABASE_CONNECTIONS": connections,
        "ANB_OPERATOR_MIRROR_MAX_AGE_SECONDS": operator["mirror"]["properties"]["maxAgeSeconds"],
        "ANB_OPERATOR_TTL_PROCESSED_SECONDS": operator["ttlSeconds"]["properties"]["processed"],
        "ANB_OPERATOR_TTL_FAILED_SECONDS": operator["ttlSeconds"]["properties"]["failed"],
    }
    for name in bounds:
        monkeypatch.setenv(name, "x")
    with pytest.raises(Misconfigured) as told:
        load(OperatorSettings)
    wanted = [
        f"{name} is x: it must be a whole number from {bound['minimum']} to {bound.get('maximum')}."
        for name, bound in bounds.items()
    ]
    assert [sentence for sentence in wanted if sentence not in told.value.problems] == []


def test_a_pod_of_the_api_may_stop_as_long_as_its_program_does(render: Render) -> None:
    (api,) = (
        manifest["spec"]["template"]["spec"]
        for manifest in render(PRESETS[0])
        if manifest["kind"] == "Deployment" and manifest["metadata"]["name"] == "anb-api"
    )
    pause = api["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert api["terminationGracePeriodSeconds"] == pause + DRAIN_SECONDS + 10


def test_what_kind_brings_out_on_the_host_leads_to_the_pods_of_the_usual_services(render: Render) -> None:
    local = ROOT / "deploy" / "local"
    (api,) = (manifest for manifest in render(CHART / "ci" / "kind-values.yaml") if manifest["kind"] == "Service")
    localstack = next(yaml.safe_load_all((local / "localstack.yaml").read_text(encoding="utf-8")))
    ways_in = list(yaml.safe_load_all((local / "kind-ports.yaml").read_text(encoding="utf-8")))
    for service, way_in in zip((api, localstack), ways_in, strict=True):
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP"
        assert way_in["spec"]["selector"] == service["spec"]["selector"]
        assert way_in["spec"]["ports"][0]["targetPort"] == service["spec"]["ports"][0]["targetPort"]
    (control_plane, *_) = yaml.safe_load((ROOT / "kind-config.yaml").read_text(encoding="utf-8"))["nodes"]
    opened = {mapping["containerPort"] for mapping in control_plane["extraPortMappings"]}
    assert opened == {way_in["spec"]["ports"][0]["nodePort"] for way_in in ways_in}


def test_every_value_is_in_the_schema_and_every_property_of_it_among_the_values() -> None:
    optional = {f"config.{name}" for name in _readers()} | {"global"}
    known = set(_properties(_schema(), _schema()["definitions"]))
    values = set(_leaves(_values()))
    assert values <= known
    assert known - values <= optional


def test_no_value_that_has_a_default_can_be_missing() -> None:
    # A key without a value takes the default away, and an upgrade with --reuse-values has none for what is new.
    for path, defaults in _objects(_values()):
        assert set(_at(_schema(), path).get("required", [])) == set(defaults), path


def test_the_readme_is_what_helm_docs_writes(tmp_path: Path) -> None:
    for name in ("Chart.yaml", "values.yaml", "README.md.gotmpl"):
        (tmp_path / name).write_bytes((CHART / name).read_bytes())
    tool("helm-docs", "--chart-search-root", str(tmp_path), "--sort-values-order", "file", "--log-level", "error")
    assert (CHART / "README.md").read_text(encoding="utf-8") == (tmp_path / "README.md").read_text(encoding="utf-8"), (
        "run `helm-docs --chart-search-root charts --sort-values-order file`"
    )


def _aliases(kind: type[BaseSettings]) -> set[str | None]:
    return {field.alias for field in kind.model_fields.values()}


def _readers() -> dict[str, list[str]]:
    readers: dict[str, list[str]] = yaml.safe_load((CHART / "files" / "config.yaml").read_text(encoding="utf-8"))
    return readers


def _given_to(program: str) -> set[str]:
    return {name for name, readers in _readers().items() if program in readers}


def _read_in(*texts: str) -> set[str | None]:
    names = {name for text in texts for name in re.findall(r"\bsettings\.(\w+)", text)}
    if "retry_policy" in names:
        names |= set(re.findall(r"\bself\.(\w+)", inspect.getsource(vars(RetrySettings)["retry_policy"].fget)))
    return {Settings.model_fields[name].alias for name in names & Settings.model_fields.keys()}


def _values() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return values


def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    return schema


def _leaves(values: dict[str, Any], prefix: str = "") -> list[str]:
    """Paths of the values. Maps that people fill (labels, quantities) are values as a whole."""
    found = []
    for name, value in values.items():
        path = f"{prefix}{name}"
        found += [path] if not isinstance(value, dict) or not value or name in OPEN else _leaves(value, f"{path}.")
    return found


def _objects(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Where the values have objects that are closed, and what has a default in each."""
    yield path, [name for name, value in values.items() if value is not None]
    for name, value in values.items():
        if isinstance(value, dict) and value and name not in OPEN:
            yield from _objects(value, (*path, name))


def _at(schema: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    found = schema
    for name in path:
        found = found["properties"][name]
        found = schema["definitions"][found["$ref"].rpartition("/")[2]] if "$ref" in found else found
    return found


def _properties(schema: dict[str, Any], definitions: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name, given in schema["properties"].items():
        child = definitions[given["$ref"].rpartition("/")[2]] if "$ref" in given else given
        path = f"{prefix}{name}"
        closed = "properties" in child and name not in OPEN
        found += _properties(child, definitions, f"{path}.") if closed else [path]
    return found


OPEN = {"resources"}
