"""Tests that the command line, the CRD and the docs contain each edit option. A failed test lists missing options."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from typer.testing import CliRunner

from anb_cli import video_commands
from anb_cli.options import build
from anb_core.domain.edit import EditSpec

REPOSITORY = Path(__file__).parents[3]


def options(model: type[BaseModel], *within: str) -> Iterator[tuple[str, ...]]:
    """Return the path of each edit option, such as ("trim", "start")."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from options(field.annotation, *within, name)
        else:
            yield (*within, name)


def at(path: tuple[str, ...], values: Any) -> Any:
    """Return the value at the given path, or None if the path does not exist."""
    for name in path:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def argument(path: tuple[str, ...]) -> str:
    """Return the CLI option of an edit option: `--start` for trim.start, `--no-intro` for intro.enabled."""
    *steps, name = path
    if name != "enabled":
        return f"--{name}"
    return f"--no-{steps[-1]}" if at(path, EditSpec().model_dump()) else f"--{steps[-1]}"


OPTIONS = list(options(EditSpec))
each_option = pytest.mark.parametrize("path", OPTIONS, ids=".".join)


def test_the_options_are_found_in_the_model() -> None:
    assert {("trim", "start"), ("outro", "enabled")} <= set(OPTIONS)


@pytest.mark.parametrize("part", EditSpec.model_fields)
def test_a_part_that_is_empty_means_the_same_as_one_that_is_left_out(part: str) -> None:
    assert EditSpec.model_validate({part: {}}) == EditSpec()


@each_option
def test_the_command_line_has_it(path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(video_commands, "upload", lambda *_args, edit, **_options: sent.append(edit))
    name = argument(path)
    arguments = [name] if path[-1] == "enabled" else [name, "1"]

    done = CliRunner().invoke(build(), ["upload", "clip.mp4", *arguments])

    assert done.exit_code == 0, done.output
    (edit,) = sent
    assert at(path, EditSpec.model_validate(edit).model_dump()) != at(path, EditSpec().model_dump())


@each_option
def test_the_guide_of_the_command_line_names_it(path: tuple[str, ...]) -> None:
    row = re.search(r"^\| `anb upload .*$", (REPOSITORY / "docs/cli.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert row is not None
    assert re.search(rf"[ `]{argument(path)}\b", row[0])


@each_option
def test_the_guide_of_the_api_shows_it_with_its_default(path: tuple[str, ...]) -> None:
    shown = re.search(r'`(\{"trim": .*\})`', (REPOSITORY / "docs/api.md").read_text(encoding="utf-8"))

    assert shown is not None
    assert at(path, json.loads(shown[1])) == at(path, EditSpec().model_dump())


@each_option
def test_a_videojob_has_it(path: tuple[str, ...]) -> None:
    text = (REPOSITORY / "charts/anb-video/files/videojob-crd.yaml").read_text(encoding="utf-8")
    (version,) = yaml.safe_load(text)["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]

    for name in ("spec", "edit", *path):
        assert name in schema["properties"], name
        schema = schema["properties"][name]
    assert f"Default {json.dumps(at(path, EditSpec().model_dump())).removesuffix('.0')}." in schema["description"]
