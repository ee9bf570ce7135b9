import errno
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from anb_cli.errors import StackTrouble
from anb_cli.stack.folder import NAME, Folder, find


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / NAME)
    made.create()
    return made


def test_only_the_owner_can_read_the_token_and_enter_the_folder(folder: Folder) -> None:
    folder.token()
    assert stat.S_IMODE((folder.path / "token").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_a_folder_that_everybody_could_enter_becomes_private(folder: Folder) -> None:
    folder.path.chmod(0o755)
    folder.create()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_another_users_folder_is_neither_used_nor_found(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    with pytest.raises(StackTrouble, match="another user"):
        folder.create()
    assert find(folder.path.parent) is None


def test_the_token_stays_the_same(folder: Folder) -> None:
    assert folder.known_token() is None
    token = folder.token()
    assert folder.token() == folder.known_token() == token
    assert len(token) >= 32


def test_two_folders_have_two_tokens(folder: Folder, tmp_path: Path) -> None:
    other = Folder(tmp_path / "other" / NAME)
    other.create()
    assert folder.token() != other.token()


def test_the_error_of_a_second_stack_names_the_first(folder: Folder) -> None:
    with folder.locked():
        folder.announce("http://127.0.0.1:8123")
        with pytest.raises(StackTrouble, match=r"runs in .*\.anb already \(process \d+, http://127\.0\.0\.1:8123\)"):
            Folder(folder.path).locked().__enter__()


def test_nothing_runs_any_more_once_the_lock_is_gone(folder: Folder) -> None:
    with folder.locked():
        folder.announce("http://127.0.0.1:8123")
        assert folder.running() is not None
    assert folder.running() is None
    with folder.locked():
        pass


def test_a_stack_that_is_killed_leaves_no_lock(folder: Folder) -> None:
    hold = (
        "import sys; from pathlib import Path; from anb_cli.stack.folder import Folder\n"
        "with Folder(Path(sys.argv[1])).locked(): print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, folder.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(StackTrouble, match="runs in"), folder.locked():
            pass
        other.kill()
    with folder.locked():
        pass


def test_a_file_system_without_locks_is_reported(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", missing)
    with pytest.raises(OSError, match="not implemented"), folder.locked():
        pass


def test_ports_are_remembered(folder: Folder) -> None:
    assert folder.ports() == {}
    folder.keep_ports({"api": 8000, "emulator": 4567})
    assert folder.ports() == {"api": 8000, "emulator": 4567}


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_file_counts_for_nothing(folder: Folder, text: str) -> None:
    (folder.path / "ports.json").write_text(text)
    assert folder.ports() == {}


def test_the_folder_keeps_itself_out_of_version_control(folder: Folder) -> None:
    assert (folder.path / ".gitignore").read_text() == "*\n"


def test_no_folder_is_found_where_there_is_none(tmp_path: Path) -> None:
    assert find(tmp_path) is None
