import os
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
        ({"ANB_URL": "videos.example", "ANB_TOKEN": "x"}, WrongUse, "'videos.example' does not begin with http"),
    ],
)
def test_a_missing_setting_is_named(
    tmp_path: Path, environ: dict[str, str], error: type[CliError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        connection(environ, tmp_path)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("HTTP://Videos.example", "http://videos.example"),
        (" https://videos.example/\n", "https://videos.example"),
        ("https://videos.example/api", "https://videos.example"),
        ("https://videos.example/api/", "https://videos.example"),
        ("https://videos.example/api/videos", "https://videos.example"),
        ("https://videos.example/docs#/videos/upload", "https://videos.example"),
        ("https://videos.example/prefix/api//", "https://videos.example/prefix"),
        ("https://videos.example/prefix/", "https://videos.example/prefix"),
        ("https://videos.example/myapi", "https://videos.example/myapi"),
        ("http://[::1]:8000/api", "http://[::1]:8000"),
        ("http://b\xfccher.example:81", "http://xn--bcher-kva.example:81"),
    ],
)
def test_an_address_is_understood_however_it_is_written(tmp_path: Path, given: str, url: str) -> None:
    assert connection({"ANB_URL": given, "ANB_TOKEN": "x"}, tmp_path).url == url


@pytest.mark.parametrize(
    "given",
    [
        "http://",
        "http:///api",
        "http://[::1",
        "http://videos.example:port",
        "http://videos.example:99999",
        "http://videos.example:0",
        "http://a b",
        "http://a\tb/",
        "http://videos.example/\x1b[2J",
        "http://\udce9",
        "http://" + "a" * 64 + ".example",
        "http://999.1.1.1",
        "ftp://videos.example",
        "http:/videos.example",
    ],
)
def test_an_invalid_address_is_refused_before_anything_is_sent(tmp_path: Path, given: str) -> None:
    with pytest.raises(WrongUse, match="ANB_URL names the deployment, but"):
        connection({"ANB_URL": given, "ANB_TOKEN": "x"}, tmp_path)


@pytest.mark.parametrize(
    "environ",
    [
        {"ANB_URL": "https://me:secret@videos.example", "ANB_TOKEN": "x"},
        {"ANB_URL": "me:secret@videos.example", "ANB_TOKEN": "x"},
        {"ANB_URL": "https://me:secret@videos.example:port", "ANB_TOKEN": "x"},
        {"ANB_URL": "anb_secret", "ANB_TOKEN": "https://videos.example"},
        {"ANB_URL": "https://videos.example", "ANB_TOKEN": "secret\nsecret"},
        {"ANB_URL": "https://videos.example", "ANB_TOKEN": "Bearer secret"},
        {"ANB_URL": "https://videos.example", "ANB_TOKEN": "secr\xe9t-secret"},
        {"ANB_URL": "https://videos.example", "ANB_TOKEN": "\udce9secret"},
        {"ANB_TOKEN": "secret\x00secret"},
    ],
)
def test_a_secret_is_never_part_of_a_sentence(tmp_path: Path, environ: dict[str, str]) -> None:
    with pytest.raises(WrongUse) as wrong:
        connection(environ, tmp_path)
    assert "secret" not in str(wrong.value)


def test_blanks_around_a_token_are_no_part_of_it(tmp_path: Path) -> None:
    environ = {"ANB_URL": "https://videos.example", "ANB_TOKEN": " secret\r\n"}
    assert connection(environ, tmp_path).token == "secret"


@pytest.mark.parametrize("running", ["[]", "{", "\xff", '{"pid": "x", "url": 1}', '{"pid": 1}', "[" * 100_000])
def test_a_damaged_file_in_the_stacks_folder_is_a_plain_error_and_no_crash(
    stack: Folder, tmp_path: Path, running: str
) -> None:
    stack.token()
    (stack.path / "running.json").write_text(running, encoding="latin-1")
    with pytest.raises(CliError):
        connection({}, tmp_path)


def test_a_folder_above_that_nobody_may_enter_holds_no_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Patch `os.stat` to raise the error, because root could enter a real folder.
    monkeypatch.setattr(os, "stat", closed)
    with pytest.raises(WrongUse, match="start one with `anb up`"):
        connection({}, tmp_path)


def test_a_deleted_current_folder_is_reported_only_where_it_matters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert connection({"ANB_URL": "https://videos.example", "ANB_TOKEN": "x"}).token == "x"
    with pytest.raises(WrongUse, match="current folder"):
        connection({})
    monkeypatch.chdir(tmp_path)


def test_a_stack_that_does_not_run_is_reported_as_down(stack: Folder, tmp_path: Path) -> None:
    stack.token()
    with pytest.raises(Unreachable, match="does not run: start it with `anb up`"):
        connection({}, tmp_path)


def test_the_token_is_not_in_the_representation() -> None:
    assert "secret" not in repr(Connection("http://x", "secret"))
