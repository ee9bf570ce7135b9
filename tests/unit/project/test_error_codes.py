"""Tests that the documents list the error codes of anb_core.domain.codes."""

import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest

from anb_core.domain import codes

REPOSITORY = Path(__file__).parents[3]
ROOMS = ("core", "services/api", "services/worker", "operator")
TABLES: list[tuple[object, Sequence[str]]] = [
    (codes.RequestCode, [*codes.REQUESTS]),
    (codes.VideoCode, [*codes.VIDEOS]),
    (codes.AttemptCode, [*codes.ATTEMPTS]),
    (codes.ProgramCode, [*codes.PROGRAMS]),
    (codes.OperatorCode, [*codes.OPERATOR]),
]
PARTS = ("alerts", "bucket", "database", "kubernetes", "metrics", "queue", "scratch")


@pytest.mark.parametrize(("code", "table"), TABLES)
def test_each_code_has_a_meaning(code: object, table: Sequence[str]) -> None:
    assert sorted(table) == list(get_args(code))


@pytest.mark.parametrize(
    ("guide", "table"),
    [
        ("api.md", [*codes.REQUESTS.items()]),
        ("api.md", [*codes.ATTEMPTS.items()]),
        ("rendering.md", [*codes.VIDEOS.items()]),
    ],
    ids=["requests", "attempts", "videos"],
)
def test_a_guide_tells_the_same_of_each_code(guide: str, table: Sequence[tuple[str, str]]) -> None:
    text = (REPOSITORY / "docs" / guide).read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:\d{3} \| )?(`\w+`(?:, `\w+`)*) \| (.+) \|$", text, re.MULTILINE)
    listed = [(code, meaning) for cell, meaning in rows for code in re.findall(r"\w+", cell)]

    assert [f"{code}: {meaning}" for code, meaning in table if (code, meaning) not in listed] == []


def test_each_code_is_in_use() -> None:
    sources = [path for room in ROOMS for path in (REPOSITORY / room / "src").rglob("*.py") if path.name != "codes.py"]
    words = {
        node.value
        for path in sources
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    # No source file contains codes that the programs build from a dependency's name, such as "database_unavailable".
    words |= {f"{part}_unavailable" for part in PARTS if part in words}

    assert [code for _, table in TABLES for code in table if code not in words] == []
