import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from anb_cli.downloading import is_written_through, target
from anb_cli.errors import Exit, Refused, Unreachable, WrongUse
from anb_cli.terminal import Terminal, size_text
from anb_cli.video_commands import Failures, edit_of, given_text
from anb_core.domain.edit import EditSpec
from tests.support.videos import a_video

PLAIN: dict[str, Any] = {"start": None, "length": None, "intro": True, "outro": True, "watermark": True}


@pytest.mark.parametrize(
    ("changes", "edit"),
    [
        ({}, {}),
        ({"start": 0.0}, {"trim": {"start": 0.0}}),
        ({"start": 2.5, "length": 10.0}, {"trim": {"start": 2.5, "length": 10.0}}),
        ({"intro": False, "watermark": False}, {"intro": {"enabled": False}, "watermark": {"enabled": False}}),
        ({"outro": False}, {"outro": {"enabled": False}}),
    ],
)
def test_only_what_differs_from_the_defaults_is_sent(changes: dict[str, Any], edit: dict[str, Any]) -> None:
    assert edit_of(**(PLAIN | changes)) == edit
    EditSpec.model_validate(edit)


def video(file_name: str) -> dict[str, Any]:
    return {"video_id": "v", "file_name": file_name}


def test_a_download_is_named_after_the_upload(tmp_path: Path) -> None:
    assert target(video("clip.mov"), tmp_path) == tmp_path / "clip-processed.mp4"


def test_a_file_name_from_the_server_cannot_leave_the_folder(tmp_path: Path) -> None:
    assert target(video("../../etc/x.mp4"), tmp_path).parent == tmp_path


def test_a_file_that_was_not_named_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "clip-processed.mp4").touch()
    with pytest.raises(WrongUse, match="exists already"):
        target(video("clip.mp4"), tmp_path)
    assert target(video("clip.mp4"), tmp_path / "clip-processed.mp4").exists()


def test_a_link_that_leads_nowhere_is_not_replaced_either(tmp_path: Path) -> None:
    (tmp_path / "clip-processed.mp4").symlink_to(tmp_path / "nowhere")
    with pytest.raises(WrongUse, match="exists already"):
        target(video("clip.mp4"), tmp_path)


def test_a_link_that_was_named_stays_and_leads_there(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link.mp4"
    link.symlink_to("elsewhere/real.mp4")
    assert target(video("clip.mp4"), link) == tmp_path / "elsewhere" / "real.mp4"
    (tmp_path / "elsewhere" / "real.mp4").touch()
    assert target(video("clip.mp4"), link) == tmp_path / "elsewhere" / "real.mp4"


def test_a_pipe_and_a_device_are_written_to_as_they_are(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link, Path("/dev/null"), Path("/dev/fd/2"), Path("/dev/stderr")):
        assert is_written_through(target(video("clip.mp4"), path))


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_stdout_has_many_names(name: str) -> None:
    assert target(video("clip.mp4"), Path(name)) == Path("-")


@pytest.mark.parametrize("name", ["a" * 300, "loop", "file/x.mp4"])
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    with pytest.raises(WrongUse):
        target(video("clip.mp4"), tmp_path / name)


def test_a_title_is_text_whatever_the_encoding_of_the_system() -> None:
    assert given_text("--title", "\udcc3\udca9t\udcc3\udca9") == "\xe9t\xe9"
    assert given_text("--title", None) is given_text("--title", "") is None
    with pytest.raises(WrongUse, match="--title is not valid UTF-8"):
        given_text("--title", "caf\udce9")


def test_a_folder_that_is_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="no folder"):
        target(video("clip.mp4"), tmp_path / "nowhere" / "x.mp4")


def test_the_first_failure_decides_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    failures = Failures(Terminal(as_json=True))
    failures.add(Refused("Not now.", code="wrong_status", status=409), video_id="a")
    failures.add(Unreachable("Gone."), video_id="b")
    with pytest.raises(typer.Exit) as exit_info:
        failures.raise_exit()
    assert exit_info.value.exit_code == Exit.REFUSED
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [
        {"video_id": "a", "error": {"code": "wrong_status", "status": 409, "message": "Not now."}},
        {"video_id": "b", "error": {"code": "unreachable", "message": "Gone."}},
    ]
    assert "Not now." in err


def test_without_a_failure_the_command_goes_on() -> None:
    Failures(Terminal(as_json=False)).raise_exit()


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_055_736, "1.1 MB"), (2_500_000_000, "2.50 GB")],
)
def test_sizes_are_shown_in_round_numbers(size: int, text: str) -> None:
    assert size_text(size) == text


def test_without_a_terminal_there_are_no_control_codes(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(as_json=False)
    terminal.videos([a_video(video_id="1", title="[bold]x[/bold]"), a_video(video_id="2", title="y" * 300)])
    terminal.note("red", "red")
    with terminal.progress() as bars:
        bar = bars.add("[clip].mp4")
        for done in range(0, 101, 10):
            bar.bytes("uploading", done, 100)
    out, err = capsys.readouterr()
    rows = [line.split("\t") for line in out.splitlines()]
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("1", "processed", "[bold]x[/bold]"),
        ("2", "processed", "y" * 300),
    ]
    assert err == "red\n[clip].mp4: uploading 100 B\n"


def test_on_a_terminal_a_list_is_as_wide_as_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "70")
    Terminal(as_json=False).videos([a_video(title="y" * 300)])
    lines = re.sub(r"\x1b\[[\d;?]*\w", "", capsys.readouterr().out).splitlines()
    assert lines
    assert max(map(len, lines)) <= 70


def test_of_a_file_whose_size_nobody_knows_the_bytes_are_told_as_they_go(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "70")
    with Terminal(as_json=False).progress() as bars:
        bars.add("-").bytes("uploading", 1_055_736, None)
    out, err = capsys.readouterr()
    assert out == ""
    assert "uploading 1.1 MB" in err
