import json
from pathlib import Path
from typing import Any

import pytest
import typer

from anb_cli.downloading import target
from anb_cli.errors import Exit, Refused, Unreachable, WrongUse
from anb_cli.terminal import Terminal, clean, size_text
from anb_cli.videos import Tally, edit_of
from anb_core.domain.edit import EditSpec

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


def test_a_name_from_the_server_leads_nowhere_else(tmp_path: Path) -> None:
    assert target(video("../../etc/x.mp4"), tmp_path).parent == tmp_path


def test_a_file_that_was_not_named_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "clip-processed.mp4").touch()
    with pytest.raises(WrongUse, match="exists already"):
        target(video("clip.mp4"), tmp_path)
    assert target(video("clip.mp4"), tmp_path / "clip-processed.mp4").exists()


def test_a_folder_that_is_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="no folder"):
        target(video("clip.mp4"), tmp_path / "nowhere" / "x.mp4")


def test_the_first_failure_decides_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally(Terminal(as_json=True))
    tally.failed(Refused("Not now.", code="wrong_status", status=409), video_id="a")
    tally.failed(Unreachable("Gone."), video_id="b")
    with pytest.raises(typer.Exit) as ended:
        tally.end()
    assert ended.value.exit_code == Exit.REFUSED
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [
        {"video_id": "a", "error": {"code": "wrong_status", "status": 409, "message": "Not now."}},
        {"video_id": "b", "error": {"code": "unreachable", "message": "Gone."}},
    ]
    assert "Not now." in err


def test_without_a_failure_the_command_goes_on() -> None:
    Tally(Terminal(as_json=False)).end()


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_055_736, "1.1 MB"), (2_500_000_000, "2.50 GB")],
)
def test_sizes_are_told_in_round_numbers(size: int, text: str) -> None:
    assert size_text(size) == text


def test_other_peoples_text_cannot_steer_the_terminal() -> None:
    assert clean("a\x1b[2Jb\u202ec") == "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}c"


def test_without_a_terminal_there_are_no_control_codes(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(as_json=False)
    terminal.table(("ID", "TITLE"), [("1", "[bold]x[/bold]"), ("2", "y" * 300)])
    terminal.note("red", "red")
    with terminal.progress() as bars:
        bar = bars.add("[clip].mp4")
        for done in range(0, 101, 10):
            bar.bytes("uploading", done, 100)
    out, err = capsys.readouterr()
    assert out == f"1\t[bold]x[/bold]\n2\t{'y' * 300}\n"
    assert err == "red\n[clip].mp4: uploading 100 B\n"
