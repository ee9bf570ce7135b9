"""`python -m anb_operator.crd charts/anb-video/files/videojob-crd.yaml` writes the CRD of VideoJobs to that file."""

import sys
from pathlib import Path
from typing import Any

import yaml

from anb_operator.naming import NAME_PATTERN
from anb_operator.videojob import GROUP, KIND, PLURAL, RULES, VERSION, Spec, Status

HEADER = "# Written by `python -m anb_operator.crd` from the models in operator/src/anb_operator/videojob.py.\n"

DESCRIPTION = (
    "A video and the work on it. The operator makes a VideoJob for every uploaded video, with the video's id as its "
    "name. A VideoJob with spec.source.key submits an object that is in the bucket already."
)

# The VideoJob's name must be the video's id, so that a video has at most one VideoJob in a namespace.
# Some older producers made ids that are no valid names. For such an id, the rule allows any name.
NAMED_BY_VIDEO = {
    "rule": "!has(self.spec.videoId) || self.metadata.name == self.spec.videoId || "
    f"!self.spec.videoId.matches('{NAME_PATTERN}')",
    "message": "The name of a VideoJob with spec.videoId must be that id, so that a video has only one VideoJob. "
    "Set metadata.name to the id.",
    "fieldPath": ".spec.videoId",
}

# Name, type, path, description and priority of each column. Columns with priority 1 appear only with `-o wide`.
COLUMNS = (
    ("Status", "string", ".status.phase", "The video's status.", 0),
    ("Progress", "string", ".status.progress", "Progress of the current attempt in percent.", 0),
    ("Attempts", "integer", ".status.attempts", "The number of attempts, over all retries.", 0),
    ("Reason", "string", ".status.error.code", "The code of the last error.", 0),
    ("Age", "date", ".metadata.creationTimestamp", "When the VideoJob was created.", 0),
    ("Video", "string", ".status.videoId", "The video's id.", 1),
    ("Result", "string", ".status.resultKey", "The key of the object with the finished video.", 1),
    ("Worker", "string", ".status.worker", "The pod of the worker that holds the lease.", 1),
    ("Dead-Letter", "integer", ".status.deadLetter.id", "The number of the dead letter, for `anb dlq show`.", 1),
)

_KEPT = ("description", "type", "format", "enum", "minLength", "maxLength", "pattern", "minimum", "maximum", "maxItems")
_SCALARS = (bool, int, float, str)


def definition() -> dict[str, Any]:
    """Return the CustomResourceDefinition as a manifest."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["vj"],
                "categories": ["all"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "selectableFields": [{"jsonPath": ".status.phase"}, {"jsonPath": ".spec.videoId"}],
                    "additionalPrinterColumns": [_column(*column) for column in COLUMNS],
                    "schema": {"openAPIV3Schema": _schema()},
                }
            ],
        },
    }


def text() -> str:
    """Return the CustomResourceDefinition as the YAML file of the chart."""
    return f"{HEADER}{yaml.safe_dump(definition(), sort_keys=False, allow_unicode=True, width=116)}"


def _schema() -> dict[str, Any]:
    return {
        "description": DESCRIPTION,
        "type": "object",
        "required": ["spec"],
        RULES: [NAMED_BY_VIDEO],
        "properties": {
            "apiVersion": {"description": "The version of this schema.", "type": "string"},
            "kind": {"description": f"{KIND}.", "type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(Spec.model_json_schema()),
            "status": structural(Status.model_json_schema()),
        },
    }


def structural(schema: dict[str, Any]) -> dict[str, Any]:
    """Convert a model's JSON schema to a structural schema of Kubernetes: without references, nulls and defaults."""
    return _structural(schema, schema.get("$defs", {}))


def _structural(given: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    schema = _merged(given, definitions)
    converted = {key: _whole(schema[key]) for key in _KEPT if key in schema}
    default = schema.get("default")
    if isinstance(default, _SCALARS):
        # Only the description states the default, so that the API server does not write the default into objects.
        shown = str(default).lower() if isinstance(default, bool) else f"{default:g}"
        converted["description"] = f"{converted['description']} Default {shown}."
    if converted.get("type") == "integer":
        converted["format"] = "int64"
    if "required" in schema:
        converted["required"] = schema["required"]
    converted |= {key: value for key, value in schema.items() if key.startswith("x-kubernetes-")}
    least = schema.get("minimum")
    if converted.get("type") == "number" and least is not None and least != int(least):
        # If the value is a whole number, the API server rounds the minimum 0.1 down to 0, and accepts the value 0.
        # The rule refuses the value 0.
        converted[RULES] = [{"rule": f"self >= {least}", "message": f"It must be at least {least}."}]
    if "properties" in schema:
        converted["properties"] = {
            name: _structural(child, definitions) for name, child in schema["properties"].items()
        }
    if "items" in schema:
        converted["items"] = _structural(schema["items"], definitions)
    return converted


def _merged(given: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Resolve a schema's `$ref` and `anyOf`. The schema's own keys override the keys of the definition."""
    inner: dict[str, Any] = {}
    if "$ref" in given:
        inner = _merged(definitions[given["$ref"].rpartition("/")[2]], definitions)
    for choice in given.get("anyOf", ()):
        if choice != {"type": "null"}:
            inner = _merged(choice, definitions)
    return inner | given


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _column(name: str, kind: str, path: str, description: str, priority: int) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return column | ({"priority": priority} if priority else {})


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(), encoding="utf-8")
