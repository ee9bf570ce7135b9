import ast
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

from anb_api import problems
from anb_core.domain import codes, errors

ROOT = Path(__file__).parents[3]
USECASES = ("adopt_many", "commands", "dead_letters", "reading", "reconcile", "submit", "upload_session", "visibility")
SOURCES = [
    *(ROOT / "services/api/src/anb_api").glob("*.py"),
    *(ROOT / "core/src/anb_core/usecases" / f"{name}.py" for name in USECASES),
    *(
        ROOT / "core/src/anb_core/domain" / f"{name}.py"
        for name in ("dead_letters", "intake", "naming", "schedule", "status")
    ),
]

PARTS = {"database", "bucket"}
"""The dependencies without which requests fail. The queue is not one of them."""


def raised(source: Path) -> Iterator[tuple[int, str]]:
    """Yield the status and the code of every error in a source file, if the error's code is a string literal."""
    for node in ast.walk(ast.parse(source.read_text())):
        match node:
            case ast.Call(func=ast.Name(id="Unavailable"), args=[ast.Constant(value=str(part)), *_]):
                yield 503, f"{part}_unavailable"
            case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(code)), *_]):
                kind = getattr(problems, name, None) or getattr(errors, name, None)
                if isinstance(kind, type) and issubclass(kind, errors.AnbError):
                    yield int(problems.status_of(kind.__new__(kind))), code
            case ast.Call(
                func=ast.Name(id="problem"),
                args=[ast.Attribute(attr=status) | ast.Name(id=status), ast.Constant(value=str(code)), *_],
            ):
                # The source has a variable for the status of a framework error, so this table gives the status.
                name = {"route_not_found": "NOT_FOUND", "method_not_allowed": "METHOD_NOT_ALLOWED"}.get(code, status)
                yield int(HTTPStatus[name]), code


def test_the_table_of_errors_lists_all_there_are_and_no_others() -> None:
    made = {(status, code) for source in SOURCES for status, code in raised(source) if code not in codes.PROGRAMS}
    # No request gets the error `source_missing`: an adoption reports the object instead.
    made -= {(404, "source_missing")}
    # Add the errors of the adapters, which are not in SOURCES.
    made |= {
        (409, "object_withheld"),
        (429, "backlog_full"),
        (429, "quota_exceeded"),
        (503, "video_unreadable"),
        (507, "storage_full"),
        *((503, f"{part}_unavailable") for part in PARTS),
    }

    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \| .+ \|$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)

    assert [(int(status), code) for status, code in rows] == sorted(made)


def test_every_route_is_in_the_table_of_requests(world_routes: set[str]) -> None:
    text = (ROOT / "docs/api.md").read_text()
    documented = {f"{method} {path}" for method, path in re.findall(r"^\| `(\w+) ([^?`]+)", text, re.MULTILINE)}

    assert documented == world_routes
