"""Tests that no function and no module has too many lines."""

import ast
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
LONGEST_FUNCTION, LONGEST_MODULE = 60, 400
"""Maximum numbers of lines of a function and of a module."""

MODULES = sorted(
    path
    for folder in (
        "core/src",
        "services/api/src",
        "services/worker/src",
        "operator/src",
        "cli/src",
        "bench",
        "tools",
        "charts",
        "tests",
    )
    for path in (REPOSITORY / folder).rglob("*.py")
    if "migrations" not in path.parts
)


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name} has {length} lines"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert long == []


def test_no_module_is_longer_than_a_few_screens() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    long = [
        f"{path.relative_to(REPOSITORY)} has {length} lines"
        for path, length in lengths.items()
        if length > LONGEST_MODULE
    ]
    assert long == []
