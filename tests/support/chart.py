"""The chart's folder, a function that runs programs such as helm, and functions that read the chart's CRDs."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHART = Path(__file__).parents[2] / "charts" / "anb-video"
PRESETS = sorted((CHART / "ci").glob("*-values.yaml"))
KUBERNETES = ("1.33.0", "1.34.0", "1.35.0")

Manifest = dict[str, Any]


def tool(*command: str, check: bool = True, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program from PATH with `given` as its stdin. If `check` is true, the test fails when the program fails."""
    if shutil.which(command[0]) is None:
        pytest.fail(f"{command[0]} is not on PATH, and the chart can't be tested without it")
    done = subprocess.run(command, check=False, capture_output=True, text=True, input=given)
    if check and done.returncode:
        pytest.fail(f"{' '.join(command)} exits with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def strict_schema(definition: Manifest) -> Manifest:
    """Return the schema of a CRD's only version, changed to forbid unknown fields."""
    (version,) = definition["spec"]["versions"]
    schema: Manifest = version["schema"]["openAPIV3Schema"]
    # Accept all metadata, because the API server does not validate metadata with the CRD's schema.
    schema["properties"]["metadata"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    _close(schema)
    return schema


def _close(schema: Manifest) -> None:
    if schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    for child in schema.get("properties", {}).values():
        _close(child)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            _close(schema[key])
