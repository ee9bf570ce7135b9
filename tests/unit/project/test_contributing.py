"""Tests that CONTRIBUTING names only modules and functions that exist."""

import importlib
import re
from pathlib import Path

import pytest

TEXT = " ".join((Path(__file__).parents[3] / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
NAMED = sorted(set(re.findall(r"`(\w+)` (?:in |\()`(anb_[\w.]+)`", TEXT)))


def test_names_are_found_in_the_guide() -> None:
    assert ("plan_render", "anb_core.domain.render_plan") in NAMED


@pytest.mark.parametrize(("name", "module"), NAMED)
def test_what_the_guide_names_is_where_it_says(name: str, module: str) -> None:
    assert hasattr(importlib.import_module(module), name)
