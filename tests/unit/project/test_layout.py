"""Tests of rules for the files of the repository that no other tool checks."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
TESTS = sorted(
    path.relative_to(REPOSITORY) for folder in ("tests", "bench") for path in (REPOSITORY / folder).rglob("*.py")
)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((REPOSITORY / path).read_text(encoding="utf-8"))):
        match node:
            case ast.ImportFrom(module=str(module)):
                yield module
            case ast.Import(names=names):
                yield from (name.name for name in names)


def test_tests_and_benches_import_from_their_own_folder_and_from_tests_support_only() -> None:
    strays = [
        f"{path} imports {module}"
        for path in TESTS
        for module in imports(path)
        if module.startswith("tests.")
        and not module.startswith("tests.support")
        and (".".join(path.parent.parts) not in (module, module.rpartition(".")[0]) or ".test_" in module)
    ]
    assert strays == [], "what several folders need lives in tests/support, and no test module is imported"


@pytest.mark.parametrize("name", ["ffmpeg_commands", "layout"])
def test_render_commands_open_no_file(name: str) -> None:
    """Check the names and the imports in the source files.

    An import contract is not enough: it can't forbid the builtin `open`, or allow only `PurePath` of `pathlib`.
    """
    path = REPOSITORY / "services/worker/src/anb_worker/render" / f"{name}.py"
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    from_pathlib = {
        alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module == "pathlib"
        for alias in node.names
    }
    assert "pathlib" not in {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert from_pathlib <= {"PurePath"}
    assert names.isdisjoint({"open", "__import__", "exec", "eval"})


def test_tests_patch_no_private_member() -> None:
    """Find private members in the strings of `setattr` calls, because Ruff's rule SLF001 ignores strings."""
    named = [
        f"{path}:{node.lineno} patches {argument.value}"
        for path in TESTS
        for node in ast.walk(ast.parse((REPOSITORY / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr"
        for argument in node.args[:2]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
        if (name := argument.value.rpartition(".")[2]).startswith("_") and not name.startswith("__")
    ]
    assert named == []
