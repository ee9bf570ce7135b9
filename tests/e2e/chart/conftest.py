"""Fixtures that render the chart, and the schemas of the chart's manifests. Helm and Go must be on PATH."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support.chart import CHART, KUBERNETES, Manifest, strict_schema, tool

Render = Callable[..., list[Manifest]]


@pytest.fixture
def render() -> Render:
    """A function `render(values_file, version, name=...)` that returns the manifests of a release."""

    def run(values: Path, version: str = KUBERNETES[-1], *, name: str = "anb") -> list[Manifest]:
        command = ("helm", "template", name, str(CHART), "-n", "video", "--kube-version", version, "-f", str(values))
        text = tool(*command).stdout
        for document in yaml.compose_all(text, yaml.SafeLoader):
            _refuse_equal_keys(document)
        return [manifest for manifest in yaml.safe_load_all(text) if manifest]

    return run


@pytest.fixture(scope="session")
def keda_schemas() -> dict[str, Manifest]:
    """The schemas of KEDA's CRDs by kind, from the Go module of the KEDA version that deploy/local/up installs.

    The schemas forbid unknown fields, because the API server refuses unknown fields.
    """
    script = CHART.parents[1] / "deploy" / "local" / "up"
    (version,) = re.findall(r"^keda=(\S+)$", script.read_text(encoding="utf-8"), re.MULTILINE)
    module = tool("go", "mod", "download", "-json", f"github.com/kedacore/keda/v2@v{version}").stdout
    folder = Path(json.loads(module)["Dir"], "config", "crd", "bases")
    definitions = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in folder.glob("keda.sh_*.yaml")]
    return {definition["spec"]["names"]["kind"]: strict_schema(definition) for definition in definitions}


@pytest.fixture(scope="session")
def videojob_definition() -> Manifest:
    """The CRD of VideoJobs."""
    definition: Manifest = yaml.safe_load((CHART / "files" / "videojob-crd.yaml").read_text(encoding="utf-8"))
    return definition


def _refuse_equal_keys(node: yaml.Node) -> None:
    """Fail if a mapping has a duplicate key. The API server refuses duplicates, but PyYAML keeps the last value."""
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"equal keys among {keys}: {node.start_mark}"
        for _, child in node.value:
            _refuse_equal_keys(child)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_equal_keys(child)
