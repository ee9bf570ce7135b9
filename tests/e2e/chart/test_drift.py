"""Tests that the chart, the programs and the documents state the same facts."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from anb_api.server import DRAIN_SECONDS
from anb_api.settings import ApiSettings
from anb_core.settings.loading import Misconfigured, load
from anb_core.settings.parsing import PATH_PREFIX
from anb_operator.settings import OperatorSettings
from anb_worker.settings import WorkerSettings
from tests.support.chart import CHART, KUBERNETES, PRESETS, Manifest, tool
from tools.settings import PROGRAMS

Render = Callable[..., list[Manifest]]

ROOT = CHART.parents[1]

RIGHT_BY_THEMSELVES = {
    # Settings that the chart does not set, because the default values are right for programs in pods.
    "ANB_LOG_FORMAT",
    "ANB_WORKER_NAME",
    "SQS_REGION",
}
LEFT_TO_LIBRARIES = {
    "TMPDIR",
    "AWS_SDK_UA_APP_ID",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
}


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """A values file that sets every setting of the programs."""
    values = yaml.safe_load((CHART / "ci" / "secret-values.yaml").read_text(encoding="utf-8"))
    values["aws"] |= {"createResources": True, "endpointUrl": "http://aws.example.com"}
    values["bucket"] |= {"endpointUrl": "http://s3.example.com", "publicEndpoint": "https://videos.example.com"}
    values["queue"] |= {"deadLetterUrl": f"{values['queue']['url']}-dlq", "celery": {"url": "redis://redis:6379/0"}}
    values["alerts"] = {"snsTopicArn": "arn:aws:sns:us-east-1:123456789012:anb-alerts"}
    values["metrics"] = {"cloudwatch": {"namespace": "ANBVideo"}}
    values["ingress"] = {"prefix": "/video"}
    values["operator"] = {"mirror": {"maxAgeSeconds": 60}}
    settings = {name: _values()["config"].get(name, bound) for name, bound in _config_schema().items()}
    values["config"] = {name: _example(given) for name, given in settings.items()}
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def test_each_pod_is_given_just_what_its_program_reads(render: Render, everything: Path) -> None:
    given = {
        container["name"]: {variable["name"] for variable in container["env"]} - LEFT_TO_LIBRARIES
        for manifest in render(everything)
        if manifest["kind"] in {"Deployment", "Job"}
        for container in manifest["spec"]["template"]["spec"]["containers"]
    }
    reads = {program: _aliases(PROGRAMS[program]) - RIGHT_BY_THEMSELVES for program in given}
    for program in ("api", "worker"):
        # API and worker do not get the total number of connections: each change of the total would restart their pods.
        reads[program].remove("ANB_DATABASE_CONNECTIONS_IN_ALL")
    # In a cluster, the program `operator` runs the loops for dead letters. The API does not run the loops.
    reads["api"] -= {"ANB_HANDLE_DEAD_LETTERS", "ANB_SNS_TOPIC_ARN"}
    assert given == reads
    assert given.keys() == {"api", "worker", "operator", "migrate", "uninstall"}


def test_the_schema_knows_no_setting_that_no_program_reads() -> None:
    assert _config_schema().keys() <= _readers().keys()


def test_defaults_of_settings_are_those_of_the_programs() -> None:
    defaults = {field.alias: field.default for model in PROGRAMS.values() for field in model.model_fields.values()}
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
    with pytest.raises(Misconfigured) as refusal:
        load(WorkerSettings)
    assert any(name in problem for problem in refusal.value.problems)
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
    opened = 1  # The migration Job uses one connection.
    stated = set()
    for name, spec in pods.items():
        env = {entry["name"]: entry.get("value") for entry in spec["template"]["spec"]["containers"][0]["env"]}
        # Count two pods, because a rolling update starts the new pod while the old pod finishes its work.
        replaced = 1 if spec.get("strategy", {}).get("type") == "Recreate" else 2
        opened += replaced * most.get(name, spec.get("replicas")) * int(env["ANB_DATABASE_CONNECTIONS"])
        stated |= {env[key] for key in env if key == "ANB_DATABASE_CONNECTIONS_IN_ALL"}
    assert len(pods) == 3
    assert opened <= 60
    assert stated == {str(opened)}
    assert f"= {opened}" in (CHART / "README.md.gotmpl").read_text(encoding="utf-8")
    assert f"{opened} connections" in (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "prefixes",
    ["raw/", "raw/,cam-1/2026/", " raw/ , b/ ", ",raw/,,", " ", "raw", "raw/,b", "raw/ b/", "/raw/", "/", "a,b/"],
)
def test_prefixes_are_taken_by_the_chart_where_the_programs_take_them(
    prefixes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)  # Without DATABASE_URL, `load` always raises Misconfigured.
    monkeypatch.setenv("ANB_SOURCE_PREFIXES", prefixes)
    with pytest.raises(Misconfigured) as refusal:
        load(WorkerSettings)
    given = ("--kube-version", KUBERNETES[-1], "-f", str(PRESETS[0]))
    value = f"config.ANB_SOURCE_PREFIXES={json.dumps(prefixes)}"
    done = tool("helm", "template", "anb", str(CHART), *given, "--set-json", value, check=False)
    assert bool(done.returncode) is any("ANB_SOURCE_PREFIXES" in problem for problem in refusal.value.problems)


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
    problems: list[str] = []
    for model in (ApiSettings, WorkerSettings, OperatorSettings):
        with pytest.raises(Misconfigured) as refusal:
            load(model)
        problems += refusal.value.problems
    wanted = [
        f"{name} is x: it must be a whole number from {bound['minimum']} to {bound.get('maximum')}."
        for name, bound in bounds.items()
    ]
    assert [sentence for sentence in wanted if sentence not in problems] == []


def test_a_path_before_the_api_has_the_form_that_the_api_takes() -> None:
    # The API accepts a prefix with a trailing slash. The chart does not, because the Ingress would keep the slash.
    own = PATH_PREFIX.pattern.removesuffix("/?")
    assert _schema()["properties"]["ingress"]["properties"]["prefix"]["pattern"] == f"^{own}$"


def test_a_pod_of_the_api_may_stop_as_long_as_its_program_does(render: Render) -> None:
    (api,) = (
        manifest["spec"]["template"]["spec"]
        for manifest in render(PRESETS[0])
        if manifest["kind"] == "Deployment" and manifest["metadata"]["name"] == "anb-api"
    )
    pause = api["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert api["terminationGracePeriodSeconds"] == pause + DRAIN_SECONDS + 10


def test_the_ports_that_kind_publishes_on_the_host_lead_to_the_pods_of_the_usual_services(render: Render) -> None:
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
    optional = {f"config.{name}" for name in _config_schema()} | {"global"}
    known = set(_properties(_schema(), _schema()["definitions"]))
    values = set(_leaves(_values()))
    assert values <= known
    assert known - values <= optional


def test_no_value_that_has_a_default_can_be_missing() -> None:
    # A value can be missing because a user sets `key: null`, or because --reuse-values keeps values of an old chart.
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
    readers: dict[str, list[str]] = yaml.safe_load((CHART / "files" / "settings.yaml").read_text(encoding="utf-8"))[
        "readers"
    ]
    return readers


def _values() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return values


def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    return schema


def _config_schema() -> dict[str, Any]:
    """Return the schemas of all keys that are allowed under `config`."""
    known: dict[str, Any] = _schema()["properties"]["config"]["properties"]
    return known


def _example(given: object) -> object:
    """Return a value that a schema accepts. If `given` is a plain value and not a schema, return `given` itself."""
    match given:
        case {"minimum": least}:
            return least
        case {"enum": [first, *_]}:
            return first
        case {"type": "string"}:
            return "a/"
    return given


def _leaves(values: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the paths of all values. A map with arbitrary keys, such as labels, counts as one value."""
    found = []
    for name, value in values.items():
        path = f"{prefix}{name}"
        found += [path] if not isinstance(value, dict) or not value or name in OPEN else _leaves(value, f"{path}.")
    return found


def _objects(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Yield each object with fixed keys: the object's path, and the names of those keys that have a default."""
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
