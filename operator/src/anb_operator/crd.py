"""`python -m anb_operator.crd charts/anb-video/files/videojob-crd.yaml` writes the definition of VideoJobs there."""

import sys
from pathlib import Path
from typing import Any

import yaml

from anb_operator.naming import NAME_PATTERN
from anb_operator.videojob import GROUP, KIND, PLURAL, RULES, VERSION, Spec, Status

HEADER = "# Written by `python -m anb_operator.crd` from the models in operator/src/anb_operator/videojob.py.\n"

DESCRIPTION = (
    "A video and the work on it. Every uploaded video is mirrored by a VideoJob named by its id; applying one with "
    "spec.source.key submits an object that is in the bucket already."
)

# One VideoJob a video: its name is taken. An id that is no name (of an older producer) is left to the operator.
NAMED_BY_VIDEO = {
    "rule": "!has(self.spec.videoId) || self.metadata.name == self.spec.videoId || "
    f"!self.spec.videoId.matches('{NAME_PATTERN}')",
    "message": "A VideoJob with spec.videoId is named by it, so that a video has one. "
    "Set metadata.name to the same id.",
    "fieldPath": ".spec.videoId",
}

# Name, type, path, description, and 1 for what only `-o wide` shows.
COLUMNS = (
    ("Status", "string", ".status.phase", "The video's status.", 0),
    ("Progress", "string", ".status.progress", "How much of the present attempt is done.", 0),
    ("Attempts", "integer", ".status.attempts", "How often workers have tried.", 0),
    ("Reason", "string", ".status.error.code", "What went wrong last, as a code.", 0),
    ("Age", "date", ".metadata.creationTimestamp", "When the VideoJob was made.", 0),
    ("Video", "string", ".status.videoId", "The video's id.", 1),
    ("Result", "string", ".status.resultKey", "The object that holds the finished video.", 1),
    ("Worker", "string", ".status.worker", "The pod that works on it.", 1),
)

_KEPT = ("description", "type", "format", "enum", "minLength", "maxLength", "pattern", "minimum", "maximum", "maxItems")
_SCALARS = (bool, int, float, str)


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition."""
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
    """The same as it stands in the chart."""
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
    """A model's JSON schema as Kubernetes takes them: without references, nulls and defaults."""
    return _structural(schema, schema.get("$defs", {}))


def _structural(given: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    schema = _merged(given, known)
    made = {key: _whole(schema[key]) for key in _KEPT if key in schema}
    default = schema.get("default")
    if isinstance(default, _SCALARS):
        # Told, not set: an object stays as it was applied.
        shown = str(default).lower() if isinstance(default, bool) else f"{default:g}"
        made["description"] = f"{made['description']} Default {shown}."
    if made.get("type") == "integer":
        made["format"] = "int64"
    if "required" in schema:
        made["required"] = schema["required"]
    made |= {key: value for key, value in schema.items() if key.startswith("x-kubernetes-")}
    least = schema.get("minimum")
    if made.get("type") == "number" and least is not None and least != int(least):
        # The API server compares a whole number with the whole part of a bound: 0 would pass for 0.1.
        made[RULES] = [{"rule": f"self >= {least}", "message": f"It must be at least {least}."}]
    if "properties" in schema:
        made["properties"] = {name: _structural(child, known) for name, child in schema["properties"].items()}
    if "items" in schema:
        made["items"] = _structural(schema["items"], known)
    return made


def _merged(given: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """The schema with what it refers to; its own words go before those of the class."""
    inner: dict[str, Any] = {}
    if "$ref" in given:
        inner = _merged(known[given["$ref"].rpartition("/")[2]], known)
    for choice in given.get("anyOf", ()):
        if choice != {"type": "null"}:
            inner = _merged(choice, known)
    return inner | given


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _column(name: str, kind: str, path: str, description: str, priority: int) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return column | ({"priority": priority} if priority else {})


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(), encoding="utf-8")
