import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from anb_core.domain.errors import Unavailable
from anb_worker.scratch import RENDER_ALLOWANCE, ScratchDisk, default_root


@dataclass
class Usage:
    free: int


def disk(root: Path, *, free: int = 10 * RENDER_ALLOWANCE, limit: int | None = None) -> ScratchDisk:
    return ScratchDisk(root, limit=limit, usage=lambda _: Usage(free))


def test_an_attempt_gets_a_folder_of_its_own_that_goes_with_it(tmp_path: Path) -> None:
    with disk(tmp_path) as scratch:
        folder = scratch.make("attempt-1", 1)
        (folder / "source").write_bytes(b"x")
        assert scratch.make("attempt-1", 1) == folder, "a download that is tried again"
        scratch.clear("attempt-1")
        assert not folder.exists()
        scratch.clear("attempt-1")


def test_nothing_of_a_worker_stays_but_the_shared_cache(tmp_path: Path) -> None:
    with disk(tmp_path) as scratch:
        scratch.make("attempt-1", 1)
        (scratch.cache / "card").write_bytes(b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "lock"]
    assert (tmp_path / "cache" / "card").exists()


def test_folders_of_a_killed_worker_are_removed_and_those_of_a_running_one_stay(tmp_path: Path) -> None:
    # Run a worker process that creates an attempt's folder and exits without removing the folder.
    code = (
        "import os, sys; from pathlib import Path; from anb_worker.scratch import ScratchDisk\n"
        "ScratchDisk(Path(sys.argv[1])).__enter__().make('attempt-1', 1); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == 9
    left = list(tmp_path.glob("worker-*/attempt-1"))
    assert len(left) == 1

    with disk(tmp_path) as living:
        assert not left[0].exists()
        kept = living.make("attempt-2", 1)
        with disk(tmp_path) as another:
            assert kept.exists()
            assert another.own != living.own


@pytest.mark.parametrize(("size", "fits"), [(RENDER_ALLOWANCE, True), (RENDER_ALLOWANCE + 1, False)])
def test_a_source_that_leaves_no_room_for_its_render_is_refused(tmp_path: Path, size: int, fits: bool) -> None:  # noqa: FBT001
    with disk(tmp_path, free=2 * RENDER_ALLOWANCE) as scratch:
        if fits:
            scratch.make("attempt-1", size)
        else:
            with pytest.raises(Unavailable, match="has room for 512 MiB") as error:
                scratch.make("attempt-1", size)
            assert error.value.part == "scratch"


def test_with_a_limit_below_the_free_space_everything_on_the_disk_counts(tmp_path: Path) -> None:
    with disk(tmp_path, limit=RENDER_ALLOWANCE + 1000) as scratch:
        scratch.make("attempt-1", 1000)
        scratch.ping()
        (scratch.cache / "card").write_bytes(bytes(1001))
        with pytest.raises(Unavailable):
            scratch.ping()


def test_a_root_that_somebody_else_made_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(PermissionError, match="TMPDIR"), disk(tmp_path):
        pass


def test_scratch_is_inside_tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert default_root().parent == tmp_path


def test_a_folder_that_can_not_be_removed_is_only_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with disk(tmp_path) as scratch, capture_logs() as logs:
        folder = scratch.make("attempt-1", 1)
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "rmtree", lambda *_args, **_kwargs: None)
            scratch.clear("attempt-1")
    assert [(line["event"], line["folder"]) for line in logs] == [("scratch could not be removed", str(folder))]
