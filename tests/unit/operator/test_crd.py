import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from anb_core.domain.errors import Invalid
from anb_core.domain.naming import clean_title
from anb_operator.crd import definition, text

WRITTEN = Path(__file__).parents[3] / "charts" / "anb-video" / "files" / "videojob-crd.yaml"


def test_the_crd_in_the_chart_is_the_one_that_the_models_give() -> None:
    assert WRITTEN.read_text(encoding="utf-8") == text(), f"run `python -m anb_operator.crd {WRITTEN}`"


def test_the_text_is_the_definition() -> None:
    assert yaml.safe_load(text()) == definition()


def test_every_field_says_what_it_is() -> None:
    silent = [path for path, schema in _fields(_schema(), "") if not schema.get("description") and path != ".metadata"]
    assert silent == []


def test_the_schema_is_structural() -> None:
    """The API server refuses a CRD with a field without a type, or with a keyword that structural schemas forbid."""
    for path, schema in _fields(_schema(), ""):
        assert schema.get("type") or schema["x-kubernetes-int-or-string"], path
        assert not {"$ref", "$defs", "anyOf", "default", "title", "additionalProperties", "const"} & schema.keys(), path


def test_a_bound_with_a_fraction_is_a_rule_too_because_the_api_server_drops_the_fraction() -> None:
    trim = _schema()["properties"]["spec"]["properties"]["edit"]["properties"]["trim"]["properties"]
    assert trim["length"]["x-kubernetes-validations"] == [
        {"rule": "self >= 0.1", "message": "It must be at least 0.1."}
    ]
    assert "x-kubernetes-validations" not in trim["start"]


def test_defaults_are_described_and_not_set() -> None:
    edit = _schema()["properties"]["spec"]["properties"]["edit"]["properties"]
    assert edit["trim"]["properties"]["length"]["description"].endswith("Default 30.")
    assert edit["intro"]["properties"]["enabled"]["description"].endswith("Default true.")


@pytest.mark.parametrize(
    "title", [" ", "\t", "\u200b\u200b", "\u00a0", "\u3164", "\U000e0041", "x", "👩\u200d👧", "می\u200cرویم"]
)
def test_a_title_is_blank_to_the_api_server_when_it_is_to_the_api(title: str) -> None:
    rules = _schema()["properties"]["spec"]["properties"]["title"]["x-kubernetes-validations"]
    (rule,) = [rule["rule"] for rule in rules if rule["message"] == "It must not be blank."]
    # Translate the CEL rule's RE2 pattern to Python's `re`. Remove \p{Z}, because Python's \s includes \p{Z}.
    pattern = rule.removeprefix("self.matches('").removesuffix("')").replace("\\\\", "\\").replace(r"\p{Z}", "")
    pattern = re.sub(r"\\x\{(\w+)\}", lambda match: chr(int(match[1], 16)), pattern)

    assert bool(re.search(pattern, title)) is not refused_as_empty(title)


def refused_as_empty(title: str) -> bool:
    try:
        clean_title(title)
    except Invalid as refusal:
        return refusal.code in {"title_empty", "title_unprintable"}
    return False


def _schema() -> dict[str, Any]:
    [version] = definition()["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def _fields(schema: dict[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    found = [(path, schema)]
    for name, child in schema.get("properties", {}).items():
        found += _fields(child, f"{path}.{name}")
    if "items" in schema:
        found += _fields(schema["items"], f"{path}[]")
    return found
