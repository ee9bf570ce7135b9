from pathlib import Path

import pytest

from anb_cli.connection import Connection, connection
from anb_cli.errors import CliError, Unreachable, WrongUse
from anb_cli.stack.folder import NAME, Folder


@pytest.fixture
def stack(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / NAME)
    folder.create()
    return folder


def test_the_environment_names_a_deployment(tmp_path: Path) -> None:
    named = {"ANB_URL": "https://videos.example/", "ANB_TOKEN": "secret"}
    assert connection(named, tmp_path) == Connection("https://videos.example", "secret")


def test_a_running_stack_is_found_from_a_folder_below_it(stack: Folder, tmp_path: Path) -> None:
    token = stack.token()
    stack.announce("http://127.0.0.1:8000")
    below = tmp_path / "some" / "where"
    below.mkdir(parents=True)
    assert connection({}, below) == Connection("http://127.0.0.1:8000", token)


def test_a_token_in_the_environment_is_preferred_to_the_stacks_own(stack: Folder, tmp_path: Path) -> None:
    stack.token()
    stack.announce("http://127.0.0.1:8000")
    assert connection({"ANB_TOKEN": "mine"}, tmp_path).token == "mine"


def test_a_stacks_token_never_goes_to_another_address(stack: Folder, tmp_path: Path) -> None:
    stack.token()
    stack.announce("http://127.0.0.1:8000")
    with pytest.raises(WrongUse, match="ANB_TOKEN is not"):
        connection({"ANB_URL": "https://videos.example"}, tmp_path)


@pytest.mark.parametrize(
    ("environ", "error", "sentence"),
    [
        ({}, WrongUse, "start one with `anb up`"),
        ({"ANB_URL": "videos.example", "ANB_TOKEN": "x"}, WrongUse, "'videos.example', but must begin with http"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, environ: dict[str, str], error: type[CliError], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        connection(environ, tmp_path)


def test_a_stack_that_does_not_run_is_said_to_be_down(stack: Folder, tmp_path: Path) -> None:
    stack.token()
    with pytest.raises(Unreachable, match="does not run: start it with `anb up`"):
        connection({}, tmp_path)


def test_the_token_is_not_in_the_representation() -> None:
    assert "secret" not in repr(Connection("http://x", "secret"))
